"""Rules for ensembles: the wiring between models, in the order in which Triton follows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runbook_lib.repository.findings import Model
from runbook_lib.repository.lint_sizes import ANY, type_name

__all__ = ["check_ensembles"]

NEWEST = -1


def check_ensembles(models: list[Model]) -> None:
    """Note what Triton refuses in the ensembles of a repository.

    Ensembles are looked at after the models they use: one that uses a broken model is broken too.
    """
    named = {model.name: model for model in models}
    done: set[str] = set()
    for model in models:
        if model.is_ensemble:
            _check_after_parts(model, named, done, ())


def _check_after_parts(
    model: Model, named: dict[str, Model], done: set[str], above: tuple[str, ...]
) -> None:
    if model.name in done:
        return
    if model.name in above:
        circle = " → ".join([*above[above.index(model.name) :], model.name])
        for name in set(above[above.index(model.name) :]):
            named[name].error(
                "cycle", f"Ensembles use each other in a circle: {circle}.", "Break it."
            )
            done.add(name)
        return
    for step in model.config.ensemble_scheduling.step:
        part = named.get(step.model_name)
        if part is not None and part.is_ensemble:
            _check_after_parts(part, named, done, (*above, model.name))
    if model.name not in done:
        done.add(model.name)
        _check(model, named)


def _check(model: Model, named: dict[str, Model]) -> None:
    config = model.config
    for section in ("optimization", "model_warmup"):
        if (section, True) in ((one.name, True) for one, _ in config.ListFields()):
            model.error("ensemble", f"An ensemble has no {section}.", f"Take {section} out.")
    if not config.ensemble_scheduling.step:
        model.error(
            "steps", "The ensemble has no step.", "Write ensemble_scheduling { step [ … ] }."
        )
        return
    if not _steps_are_whole(model):
        return
    _check_flow(model)
    _check_parts(model, named)


def _steps_are_whole(model: Model) -> bool:
    whole = True
    for number, step in enumerate(model.config.ensemble_scheduling.step, 1):
        missing = [
            name for name in ("model_name", "input_map", "output_map") if not getattr(step, name)
        ]
        if missing:
            whole = False
            model.error(
                "steps", f"Step {number} has no {' and no '.join(missing)}.", "Complete the step."
            )
    return whole


# -- which tensors are written, read, and in what order -------------------------------------------


def _check_flow(model: Model) -> None:
    config = model.config
    steps = config.ensemble_scheduling.step
    written = [name for step in steps for name in step.output_map.values()]
    for name in sorted({name for name in written if written.count(name) > 1}):
        model.error(
            "written_twice",
            f"The tensor {name} is written by more than one step or output.",
            "Give each its own name.",
        )
    read = {name for step in steps for name in step.input_map.values()}
    inputs, outputs = [one.name for one in config.input], [one.name for one in config.output]
    for name in inputs:
        if name not in read and name not in written:
            model.error(
                "unused_input",
                f"The ensemble's input {name or '(without a name)'} goes to no step.",
                f'Map it: input_map {{ key: "…" value: "{name}" }}, or take it out.',
            )
    ready = _ready(steps, set(inputs))
    for name in outputs:
        if name not in ready:
            model.error(
                "unwritten_output",
                f"The ensemble's output {name or '(without a name)'} is written by no step that can run.",
                f'Map it: output_map {{ key: "…" value: "{name}" }}, or take it out.',
            )
    for name in sorted((read | set(written)) - set(outputs)):
        if name not in ready:
            model.error(
                "never_written",
                f"The tensor {name} is read and never written.",
                "Write it in an earlier step, or correct the name.",
            )
        elif name not in read:
            model.error(
                "unread",
                f"The tensor {name} is written and never read.",
                "Leave the output out of the output_map, or make it an output of the ensemble.",
            )


def _ready(steps: Any, ready: set[str]) -> set[str]:
    """The tensors that get a value once the inputs have theirs."""
    ready = set(ready)
    while True:
        more = {
            name
            for step in steps
            if set(step.input_map.values()) <= ready
            for name in step.output_map.values()
        }
        if more <= ready:
            return ready
        ready |= more


# -- whether each step fits the model it names ------------------------------------------------------


@dataclass
class _Tensor:
    """A tensor of the ensemble with the first model that said what it is."""

    said_by: str
    kind: int
    dims: list[int]
    batched: bool
    label: int = 0

    @property
    def full(self) -> list[int]:
        return [ANY, *self.dims] if self.batched else self.dims


@dataclass
class _Wiring:
    """The ensemble's tensors by name, gathered step by step."""

    tensors: dict[str, _Tensor] = field(default_factory=dict)


def _check_parts(model: Model, named: dict[str, Model]) -> None:
    wiring = _Wiring()
    config = model.config
    for tensor in [*config.input, *config.output]:
        dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
        batched = config.max_batch_size > 0
        wiring.tensors.setdefault(
            tensor.name, _Tensor(model.name, tensor.data_type, list(dims), batched)
        )
    for step in config.ensemble_scheduling.step:
        part = named.get(step.model_name)
        if part is None:
            model.error(
                "unknown_model",
                f"A step names the model {step.model_name}, which is not in the repository.",
                f"Add it, or name one of: {', '.join(sorted(set(named) - {model.name}))}.",
            )
        elif part.fails:
            model.error(
                "broken_part",
                f"The model {part.name}, which a step uses, does not load.",
                f"Correct {part.name} first.",
            )
        else:
            _check_step(model, step, part, wiring)
    if not model.fails:
        _check_decoupled(model, named)


def _check_step(model: Model, step: Any, part: Model, wiring: _Wiring) -> None:
    if step.model_version != NEWEST and step.model_version not in part.loaded:
        wants = f"version {step.model_version}"
        unsaid = (
            " (that is what a step without model_version means)" if not step.model_version else ""
        )
        model.error(
            "part_version",
            f"A step wants {wants} of {part.name}{unsaid}; "
            f"{part.name} loads {', '.join(map(str, part.loaded))}.",
            "Write model_version: -1 for the newest.",
        )
    if part.completes_itself:
        return  # its tensors are known to its own code only
    largest = part.config.max_batch_size if part.config is not None else 0
    if 0 < largest < model.config.max_batch_size:
        model.error(
            "max_batch_size",
            f"The ensemble takes batches of {model.config.max_batch_size}, its step {part.name} "
            f"only of {largest}.",
            f"Write max_batch_size: {largest} in the ensemble, or raise it in {part.name}.",
        )
    inputs = {one.name: one for one in part.config.input} if part.config is not None else {}
    outputs = {one.name: one for one in part.config.output} if part.config is not None else {}
    for side, mapped, there in (
        ("input", step.input_map, inputs),
        ("output", step.output_map, outputs),
    ):
        for name in sorted(set(mapped) - set(there)):
            model.error(
                "unknown_tensor",
                f"The {side}_map names {name}, and {part.name} has no such {side}.",
                f"Its {side}s: {', '.join(sorted(there)) or 'none'}.",
            )
        for name in sorted(set(mapped) & set(there)):
            found = there[name]
            now = _Tensor(part.name, found.data_type, list(found.dims), largest > 0)
            _compare(model, mapped[name], now, wiring)
    for name in sorted(set(inputs) - set(step.input_map)):
        if not inputs[name].optional:
            model.error(
                "unmapped_input",
                f"The input {name} of {part.name} gets no tensor.",
                f'Map it: input_map {{ key: "{name}" value: "…" }}, or make it optional.',
            )


def _compare(model: Model, name: str, now: _Tensor, wiring: _Wiring) -> None:
    first = wiring.tensors.setdefault(name, now)
    if first.kind != now.kind:
        kinds = [type_name(one.kind) for one in (first, now)]
        model.error(
            "data_type",
            f"The tensor {name} is {kinds[0]} in {first.said_by} and {kinds[1]} in {now.said_by}.",
            "Make them the same.",
        )
    elif not _agree(first.dims, now.dims) and not _agree(first.full, now.full):
        model.error(
            "shape",
            f"The tensor {name} is {first.full} in {first.said_by} and {now.full} in {now.said_by} "
            "(a batch dimension counts).",
            "Make the dims the same, or -1 where the size varies.",
        )


def _agree(some: list[int], others: list[int]) -> bool:
    return len(some) == len(others) and all(
        one == other or ANY in (one, other) for one, other in zip(some, others, strict=True)
    )


# -- decoupled models: a step can't join answers of different counts -------------------------------


def _check_decoupled(model: Model, named: dict[str, Model]) -> None:
    streams = {one.name: 0 for one in model.config.input}
    count = 0
    for step in _in_order(model):
        given = {streams[name] for name in step.input_map.values()}
        if len(given) > 1:
            _refuse_join(model, f"The step {step.model_name} joins")
            return
        part = named[step.model_name]
        apart = part.decoupled or (
            part.config is not None and part.config.model_transaction_policy.decoupled
        )
        count += apart
        for name in step.output_map.values():
            streams[name] = count if apart else min(given)
    if len({streams[one.name] for one in model.config.output}) > 1:
        _refuse_join(model, "The ensemble's outputs join")
    model.decoupled = count > 0


def _refuse_join(model: Model, who: str) -> None:
    model.error(
        "decoupled",
        f"{who} tensors from before and after a decoupled model, or from two of them; such a model "
        "gives any number of answers a request.",
        "Pass the tensor through the decoupled model, or take the joined ones from one side.",
    )


def _in_order(model: Model) -> Iterator[Any]:
    """The steps, each after those that write what it reads."""
    waiting = list(model.config.ensemble_scheduling.step)
    ready = {one.name for one in model.config.input}
    while waiting:
        able = [step for step in waiting if set(step.input_map.values()) <= ready]
        if not able:
            return
        for step in able:
            waiting.remove(step)
            ready |= set(step.output_map.values())
            yield step
