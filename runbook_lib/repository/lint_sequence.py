"""Rules for the sequence batcher: its controls, its strategy, the states that it keeps.

Source: `ValidateModelConfig` in triton-inference-server/core, src/model_config_utils.cc, and
`GenerateInitialStateData` in src/sequence_batch_scheduler, release 24.10 (Triton 2.51).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from runbook_lib.repository.findings import Model
from runbook_lib.repository.lint_sizes import ANY, byte_size, kind_name, type_name

__all__ = ["check_sequences"]

CORRELATION = "CONTROL_SEQUENCE_CORRID"
NUMBERED = {"TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING"}
CONTROL_FIX = (
    "Write one of int32_false_true, fp32_false_true and bool_false_true, as [ 0, 1 ]; for "
    f"{CORRELATION} a data_type and none of them."
)


def check_sequences(model: Model) -> None:
    """Note what Triton refuses in `sequence_batching`."""
    config = model.config
    if not config.HasField("sequence_batching"):
        return
    batching = config.sequence_batching
    if config.response_cache.enable:
        model.error(
            "response_cache",
            "A model with sequences can't have a response cache.",
            "Take response_cache out.",
        )
    utilisation = batching.direct.minimum_slot_utilization
    if utilisation < 0 or utilisation > 1:
        model.error(
            "sequence",
            f"minimum_slot_utilization is {utilisation:g}.",
            "Write a number from 0 to 1.",
        )
    _check_names(model, batching)
    for tensor in batching.control_input:
        for control in tensor.control:
            _check_control(model, tensor.name, control)
    _check_states(model, batching)


def _check_names(model: Model, batching: Any) -> None:
    names = Counter(tensor.name for tensor in batching.control_input)
    if "" in names:
        model.error("control", "A control_input has no name.", 'Write name: "…".')
    for name in sorted(one for one, count in names.items() if count > 1):
        model.error(
            "control",
            f"The control tensor {name} is written twice.",
            "Give each control a tensor of its own.",
        )
    kinds = Counter(
        kind_name(one.Kind, one.kind) for each in batching.control_input for one in each.control
    )
    for kind in sorted(one for one, count in kinds.items() if count > 1):
        model.error("control", f"{kind} is told by more than one tensor.", "Keep one of them.")


def _check_control(model: Model, name: str, control: Any) -> None:
    values = (control.int32_false_true, control.fp32_false_true, control.bool_false_true)
    given = [len(one) for one in values if one]
    kind = kind_name(control.Kind, control.kind)
    if given != ([] if kind == CORRELATION else [2]):
        model.error(
            "control", f"The control {kind} of {name} has not the values it needs.", CONTROL_FIX
        )
    elif kind == CORRELATION:
        typed = type_name(control.data_type)
        if typed not in NUMBERED:
            model.error(
                "control",
                f"The control {kind} of {name} has the data type {typed}.",
                "Write TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 or TYPE_STRING.",
            )


def _check_states(model: Model, batching: Any) -> None:
    begun = set[str]()
    for state in batching.state:
        problem = ""
        if len(state.initial_state) > 1:
            problem = "has more than one initial_state"
        elif state.initial_state:
            again = state.input_name in begun
            problem = "has an initial_state twice" if again else _initial(model, state)
            begun.add(state.input_name)
        if problem:
            model.error(
                "state",
                f"The state {state.input_name} {problem}.",
                "Write initial_state { name data_type dims zero_data: true }, type and dims as the "
                "state's, every dim a number.",
            )


def _initial(model: Model, state: Any) -> str:
    """What is wrong with a state's beginning."""
    first = state.initial_state[0]
    if first.data_type != state.data_type:
        return "begins with another data_type"
    if not first.name:
        return "begins with an initial_state without a name"
    fits = len(first.dims) == len(state.dims) and all(
        there in {ANY, one} for one, there in zip(first.dims, state.dims, strict=True)
    )
    if ANY in first.dims or not fits:
        return "begins with other dims, or with one of any size"
    which = first.WhichOneof("state_data")
    if which == "data_file":
        return _file(model, first)
    return "" if which else "begins with neither zero_data nor data_file"


def _file(model: Model, first: Any) -> str:
    path = model.path / "initial_state" / first.data_file
    if not path.is_file():
        return f"begins with the file initial_state/{first.data_file}, which is missing"
    short = byte_size(first.data_type, first.dims) > path.stat().st_size
    return (
        f"begins with the file initial_state/{first.data_file}, which is too short" if short else ""
    )
