"""Rules for warm-up requests: Triton makes and sends them before a model is ready.

Source: `GenerateWarmupData` in triton-inference-server/core, src/backend_model_instance.cc, release
24.10 (Triton 2.51).
"""

from __future__ import annotations

from typing import Any

from runbook_lib.repository.findings import Model
from runbook_lib.repository.lint_sizes import ANY, byte_size, type_name

__all__ = ["check_warm_up"]

FIX = "Write data_type and dims as the input's, without the batch, and zero_data: true."


def check_warm_up(model: Model) -> None:
    """Note what Triton refuses in `model_warmup`; an ensemble has none."""
    if model.is_ensemble:
        return
    for sample in model.config.model_warmup:
        if sample.batch_size == 0:
            continue  # passed over
        if sample.batch_size > max(model.config.max_batch_size, 1):
            model.error(
                "warm_up",
                f"The warm-up {sample.name} has a batch of {sample.batch_size}, more than "
                f"max_batch_size {model.config.max_batch_size}.",
                "Write batch_size: 1.",
            )
        for name, given in sorted(sample.inputs.items()):
            if problem := _problem(model, name, given):
                model.error("warm_up", f"The warm-up {sample.name} {problem}.", FIX)
        # Triton counts: which of the inputs is missing matters only when it is read.
        wanted = sum(not one.optional for one in model.config.input)
        given = sum(one.name in sample.inputs for one in model.config.input)
        if given < wanted and not model.completes_itself:
            model.error(
                "warm_up",
                f"The warm-up {sample.name} gives {given} inputs, and the model wants {wanted}.",
                FIX,
            )


def _problem(model: Model, name: str, given: Any) -> str:
    if ANY in given.dims:
        return f"gives {name} a dim of any size"
    which = given.WhichOneof("input_data_type")
    if which is None:
        return f"says not what data {name} gets"
    if which == "input_data_file" and (problem := _file(model, given)):
        return problem
    wanted = next((one for one in model.config.input if one.name == name), None)
    if wanted is None or model.completes_itself:
        return ""
    if wanted.data_type != given.data_type:
        return f"gives {name} {type_name(given.data_type)}, not {type_name(wanted.data_type)}"
    sizes = list(given.dims)
    fits = len(sizes) == len(wanted.dims) and all(
        want in {ANY, have} for want, have in zip(wanted.dims, sizes, strict=True)
    )
    return "" if fits else f"gives {name} the dims {sizes}"


def _file(model: Model, given: Any) -> str:
    path = model.path / "warmup" / given.input_data_file
    if not path.is_file():
        return f"reads warmup/{given.input_data_file}, which is missing"
    short = byte_size(given.data_type, given.dims) > path.stat().st_size
    return f"reads warmup/{given.input_data_file}, which is too short" if short else ""
