"""How far the roofline's estimates are from published throughput that they were not fitted to.

Prints JSON. Each split leaves out whole models, GPUs, architectures or releases, fits the factors
to the rest, and estimates what was left out. Intervals are the quantiles of the other folds'
errors, widened by one factor a split until nine of ten of what was left out lie inside. With
`--write` the factors fitted to every point, and those quantiles, go into the package.
"""

import json
import sys
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from runbook_lib.hardware import gpu
from runbook_lib.plan.roofline_interval import band, novelties
from runbook_lib.plan.roofline_points import points_of, published, together
from runbook_lib.plan.roofline_time import DATA, Factors, parts
from runbook_lib.plan.roofline_work import Step

FIGURES = Path(__file__).resolve().parents[1] / "data"
NEVER_FITTED = FIGURES / "roofline_never_fitted.json"
ANOTHER_RELEASE = FIGURES / "roofline_release_0.17.json"
NAMES = [one.name for one in fields(Factors)]
# What a factor is where no point tells, and how far (in logarithms) a fit goes from it unasked.
EXPECTED = {
    "weights_read": (0.8, 0.3),
    "cache_read": (0.8, 0.4),
    "compute_16": (0.6, 0.4),
    "compute_8": (0.6, 0.4),
    "compute_4": (0.4, 0.5),
    "experts": (0.7, 0.4),
    "unpacking": (0.7, 0.3),
    "attention": (0.4, 0.7),
    "passes": (10, 1.0),
    "nvlink": (0.5, 0.7),
    "pcie": (0.5, 0.7),
    "message_seconds": (10e-6, 1.0),
    "layer_seconds": (1e-5, 1.5),
    "mixture_seconds": (1e-5, 1.5),
    "step_engine_seconds": (1e-3, 1.0),
    "step_pytorch_seconds": (5e-3, 1.0),
    "sequence_engine_seconds": (3e-6, 1.0),
    "sequence_pytorch_seconds": (5e-6, 1.0),
    "pipeline": (0.9, 0.2),
    "overlap": (2.0, 0.4),
}
START = np.log([EXPECTED[name][0] for name in NAMES])
WIDTH = np.array([EXPECTED[name][1] for name in NAMES])
ROBUST = 0.15  # errors beyond this (in logarithms) pull no harder: Huber's
STEP = 1e-5
QUANTILES = (0.05, 0.95)
MOST = 0.95  # of the points; what more is launching than in these is covered by none
COVERED = 0.9  # of the points left out, in the interval that they are given
SPLITS = {
    "configuration": lambda point: (point.trtllm, point.model_name, str(point.deployed)),
    "model": lambda point: str(point.deployed.model),
    "gpu": lambda point: point.deployed.machine.name,
    "architecture": lambda point: gpu(point.deployed.machine.name).architecture,
    "release": lambda point: point.trtllm,
}


class Bench:
    """Points as arrays, and the fit of the factors to some of them."""

    def __init__(self, points):
        self.points = points
        self.step = Step.stacked([point.step for point in points], np.array)
        self.measured = np.array([point.measured for point in points])
        self.first = np.array([point.first_token for point in points])
        self.together = np.array([together(point.deployed, point.batch) for point in points])
        self.kind = np.array(["moe" if p.deployed.model.experts else "dense" for p in points])

    def errors(self, logs):
        """Logarithm of the estimated speed over the published one, each point."""
        seconds = parts(self.step, Factors(*np.exp(logs))).total
        late = np.log(seconds / self.measured)
        return np.where(self.first, -late, np.log(self.together / seconds / self.measured))

    def overhead(self, known):
        """The share of a step in launching and scheduling that most points of a runtime have."""
        found = parts(self.step, known)
        share = found.overhead / found.total
        runtime = np.where(self.step.is_pytorch, "pytorch", "engine")
        return {
            name: round(float(np.quantile(share[(runtime == name) & ~self.first], MOST)), 3)
            for name in ("engine", "pytorch")
        }

    def _loss(self, logs, kept):
        error = np.abs(self.errors(logs)[kept])
        inside = error < ROBUST
        each = np.where(inside, error**2 / 2, ROBUST * (error - ROBUST / 2)) / ROBUST**2
        return each.sum() + (((logs - START) / WIDTH) ** 2).sum() / 2

    def fit(self, kept, start=START):
        """The factors' logarithms that suit the kept points: Levenberg and Marquardt's way."""
        logs, damping, loss = np.array(start), 1e-2, self._loss(start, kept)
        for _ in range(60):
            change, damping, found = self._improve(logs, kept, damping, loss)
            if found is None:
                break
            logs, gained, loss = logs + change, loss - found, found
            if gained < 1e-6 * loss:
                break
        return logs

    def _improve(self, logs, kept, damping, loss):
        error = self.errors(logs)
        moved = [
            (self.errors(logs + STEP * one)[kept] - error[kept]) / STEP for one in np.eye(len(logs))
        ]
        error, slopes = error[kept], np.array(moved).T
        weight = 1 / np.maximum(np.abs(error) / ROBUST, 1) / ROBUST**2
        curve = slopes.T @ (slopes * weight[:, None]) + np.diag(1 / WIDTH**2)
        slope = slopes.T @ (weight * error) + (logs - START) / WIDTH**2
        for _ in range(10):
            damped = curve + damping * np.diag(np.diag(curve))
            change = np.clip(-np.linalg.solve(damped, slope), -0.7, 0.7)
            found = self._loss(logs + change, kept)
            if found < loss:
                return change, max(damping / 5, 1e-7), found
            damping *= 4
        return None, damping, None

    def left_out(self, keys, start, *, out=None):
        """Errors of each point from a fit without those that share its key."""
        errors = np.empty(len(self.points))
        for key in dict.fromkeys(keys):
            held = np.array([one == key for one in keys])
            away = held if out is None else out(key)
            errors[held] = self.errors(self.fit(~away, start))[held]
        return errors

    def splits(self, start):
        """The keys of each split's folds, and the errors of their points when left out."""
        keys = {name: [key(point) for point in self.points] for name, key in SPLITS.items()}
        errors = {name: self.left_out(keys[name], start) for name in SPLITS}
        three = list(zip(keys["model"], keys["gpu"], keys["release"], strict=True))
        keys["several"] = three
        errors["several"] = self.left_out(
            three,
            start,
            out=lambda key: np.array([bool(set(key) & set(one)) for one in three]),
        )
        return keys, errors


def bands(errors, kind, wider):
    """The quantiles of errors of each kind, widened: what an estimate's interval is made of."""
    return {
        str(name): [
            round(float(value) * wider, 4) for value in np.quantile(errors[kind == name], QUANTILES)
        ]
        for name in sorted(set(kind))
    }


def inside(keys, errors, kind, wider):
    """Whether each point lies in the interval that the other folds' errors give it."""
    hit = np.zeros(len(errors), bool)
    for key in dict.fromkeys(keys):
        held = np.array([one == key for one in keys])
        for name in set(kind[held]):
            others = errors[~held & (kind == name)]
            low, high = wider * np.quantile(others if len(others) else errors[~held], QUANTILES)
            mine = held & (kind == name)
            hit[mine] = (errors[mine] >= low) & (errors[mine] <= high)
    return hit


def widening(keys, errors, kind):
    """How much wider the quantiles must be so that enough of what was left out lies inside."""
    for tenths in range(20, 100):
        if inside(keys, errors, kind, tenths / 20).mean() >= COVERED:
            break
    return tenths / 20


def score(errors, hit=None):
    """Median and 90th percentile of the relative error, and how many lay in their interval."""
    off = np.abs(np.exp(errors) - 1)
    said = {
        "points": len(errors),
        "median_error": round(float(np.median(off)), 3),
        "p90_error": round(float(np.quantile(off, 0.9)), 3),
        "median_ratio": round(float(np.exp(np.median(errors))), 3),
    }
    return said if hit is None else said | {"in_interval": round(float(hit.mean()), 3)}


def each(names, errors, hit):
    """The score of each model, GPU or release, the worst first."""
    found = {}
    for name in dict.fromkeys(names):
        mine = np.array([one == name for one in names])
        found[name] = score(errors[mine], hit[mine])
    return dict(sorted(found.items(), key=lambda pair: -pair[1]["median_error"]))


def measure():
    """What `main` prints, and the calibration that `--write` keeps."""
    bench = Bench(published())
    everything = np.ones(len(bench.points), bool)
    fitted = bench.fit(everything)
    keys, errors = bench.splits(fitted)
    wider = {name: widening(keys[name], errors[name], bench.kind) for name in errors}
    hits = {name: inside(keys[name], errors[name], bench.kind, wider[name]) for name in errors}
    names = {
        "model": [point.model_name for point in bench.points],
        "gpu": keys["gpu"],
        "architecture": keys["architecture"],
        "release": keys["release"],
    }
    known = {name: float(f"{value:.4g}") for name, value in zip(NAMES, np.exp(fitted), strict=True)}
    calibration = {
        "source": "Fitted by tests/bench/roofline.py to the points of roofline_points.json.",
        "factors": asdict(Factors(**known)),
        "log_error_quantiles": list(QUANTILES),
        "widened": wider,
        "log_errors": {name: bands(errors[name], bench.kind, wider[name]) for name in errors},
        "overhead_covered": bench.overhead(Factors(**known)),
        "score": {name: score(errors[name], hits[name]) for name in errors},
    }
    figures = {
        "points": dict(Counter(names["release"])),
        "fitted_to_all": score(bench.errors(np.log(list(known.values())))),
        "left_out": calibration["score"],
        "dense_and_moe": {
            name: {
                kind: score(errors[name][bench.kind == kind], hits[name][bench.kind == kind])
                for kind in ("dense", "moe")
            }
            for name in errors
        },
        **{f"left_out_{name}": each(names[name], errors[name], hits[name]) for name in names},
        "never_fitted": against(NEVER_FITTED, calibration),
        "another_release": against(ANOTHER_RELEASE, calibration),
    }
    return calibration, figures


def against(file, calibration):
    """Points that no fit and no quantile has seen, against the shipped factors and intervals.

    Those of `NEVER_FITTED` were looked at while two terms of the model were chosen (launches of a
    mixture's kernels, unpacking of weights); those of `ANOTHER_RELEASE` only when all was settled.
    """
    document = json.loads(file.read_bytes())
    bench = Bench(points_of(document))
    errors = bench.errors(np.log(list(calibration["factors"].values())))
    low, high = np.array(
        [
            band(novelties(point.deployed, point.trtllm), kind, calibration["log_errors"])
            for point, kind in zip(bench.points, bench.kind, strict=True)
        ]
    ).T
    hit = (errors >= low) & (errors <= high)
    return {
        "all": score(errors, hit),
        "model": each([point.model_name for point in bench.points], errors, hit),
        "gpu": each([point.deployed.machine.name for point in bench.points], errors, hit),
        "release": each([point.trtllm for point in bench.points], errors, hit),
    }


def main():
    calibration, figures = measure()
    if "--write" in sys.argv[1:]:
        DATA.write_text(json.dumps(calibration, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
