"""How sure an estimate is: what published points it resembles, and how far such estimates were off.

The band of an estimate is that of the errors that were found where what is new about it had been
left out of the fit: `roofline.json` keeps them by what was left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from runbook_lib.hardware import gpu
from runbook_lib.plan.roofline_points import published
from runbook_lib.plan.roofline_work import Deployment

__all__ = ["band", "nearest", "novelties", "strangeness", "taken_like"]

SAID = ("model", "gpu", "release", "quantisation", "runtime")
FEW = 2  # traits that no point has, from which several are taken as left out together


# Minor releases in their order: one next to a release whose figures are known is taken like it.
MINORS = (*(f"0.{minor}" for minor in range(5, 22)), "1.0", "1.1", "1.2", "1.3")
# Estimates made for 0.15 were tried on 373 published figures of 0.17 that no fit had seen: 9 of 10
# were within 15 % (tests/bench/results/roofline.json, `another_release`).
TRIED = {("0.17", "TensorRT"): "0.15"}


def taken_like(trtllm: str | None, runtime: str) -> str | None:
    """The published minor release whose estimates are made for this one; None for no such.

    A release whose figures are published in this runtime, one that they were tried on, or one next
    to either.
    """
    if trtllm is None:
        return None
    minor = ".".join(trtllm.split(".")[:2])
    known = {release: release for release, of in _releases() if of == runtime}
    known |= {release: like for (release, of), like in TRIED.items() if of == runtime}
    if minor in known or minor not in MINORS:
        return known.get(minor)
    at = MINORS.index(minor)
    beside = (MINORS[near] for near in (at - 1, at + 1) if 0 <= near < len(MINORS))
    return next((known[one] for one in beside if one in known), None)


def band(
    new: Sequence[str], kind: str, errors: Mapping[str, Mapping[str, Sequence[float]]]
) -> tuple[float, float]:
    """Logarithms of estimated over true speed, least and most, where these things are new.

    Args:
        new: as `novelties` gives them.
        kind: `dense` or `moe`.
        errors: `log_errors` of the calibration.
    """
    found = [errors[one][kind] for one in ("configuration", *new)]
    return min(low for low, _ in found), max(high for _, high in found)


def novelties(deployed: Deployment, trtllm: str | None, *, sliced: bool = False) -> list[str]:
    """What no published point has, as the splits of the calibration name it."""
    known = _known()
    traits = _traits(deployed, trtllm)
    new = [name for name in ("model", "gpu", "release") if traits[name] not in known[name]]
    if sliced and "gpu" not in new:
        new.append("gpu")
    if len(new) >= FEW or traits["quantisation"] not in known["quantisation"]:
        new.append("several")
    if traits["architecture"] not in known["architecture"]:
        new.append("architecture")
    met = any(_share(each, traits, ("model", "gpu")) for each in _every())
    if not met and not {"model", "gpu"} & set(new):
        new += ["model", "gpu"]  # each is known, but not the two together
    return new


def strangeness(deployed: Deployment, trtllm: str | None, *, device: str) -> list[str]:
    """The same in words, one sentence's end for each thing that no published point has."""
    known, traits = _known(), _traits(deployed, trtllm)
    said = {
        "model": "no published point of a model of this size and shape",
        "gpu": f"no published point of {device}",
        "release": f"no published point of the {traits['runtime']} runtime near release {trtllm}"
        if trtllm
        else "no release is named: the interval is that of an unknown one",
        "quantisation": f"no published point with quantisation {traits['quantisation']}",
        "runtime": f"no published point of {device} with the {traits['runtime']} runtime",
    }
    new = [name for name in traits if traits[name] not in known[name]]
    if device != deployed.machine.name and "gpu" not in new:
        new.append("gpu")
    if "gpu" not in new and not any(_share(each, traits, ("gpu", "runtime")) for each in _every()):
        new.append("runtime")
    return [said[name] for name in said if name in new]


def nearest(deployed: Deployment, trtllm: str | None) -> tuple[int, tuple[str, ...]]:
    """How many published points share the most with this deployment, and what they share."""
    wanted = _traits(deployed, trtllm)
    shared = [tuple(name for name in SAID if _share(each, wanted, (name,))) for each in _every()]
    most = max(shared, key=len)
    return shared.count(most), most


def _share(one: Mapping[str, object], other: Mapping[str, object], names: Sequence[str]) -> bool:
    return all(one[name] == other[name] for name in names)


def _traits(deployed: Deployment, trtllm: str | None) -> dict[str, object]:
    model, runtime = deployed.model, "PyTorch" if deployed.pytorch else "TensorRT"
    return {
        "model": (model.parameters, model.active_parameters, model.hidden, model.layers),
        "gpu": deployed.machine.name,
        "release": (taken_like(trtllm, runtime), runtime),
        "quantisation": model.in_force(deployed.quantization),
        "runtime": runtime,
        "architecture": gpu(deployed.machine.name).architecture,
    }


@cache
def _releases() -> frozenset[tuple[str, str]]:
    return frozenset(
        (
            ".".join(point.trtllm.split(".")[:2]),
            "PyTorch" if point.deployed.pytorch else "TensorRT",
        )
        for point in published()
    )


@cache
def _every() -> tuple[dict[str, object], ...]:
    return tuple(_traits(point.deployed, point.trtllm) for point in published())


@cache
def _known() -> dict[str, set[object]]:
    return {name: {each[name] for each in _every()} for name in _every()[0]}
