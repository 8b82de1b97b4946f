"""Rules for the tensors and the batching of a `config.pbtxt`."""

from __future__ import annotations

from typing import Any

from runbook_lib.repository.findings import Model
from runbook_lib.repository.lint_sizes import ANY, type_name

__all__ = ["check_batching", "check_tensors"]

DELAY = 1  # ModelQueuePolicy.TimeoutAction
BATCH_TYPES = {"TYPE_INT32", "TYPE_FP32"}


def check_tensors(model: Model) -> None:
    """Note what Triton refuses in inputs and outputs.

    A model whose code completes its configuration may leave things out.
    """
    for kind, tensors in (("input", model.config.input), ("output", model.config.output)):
        for tensor in tensors:
            _check_tensor(model, kind, tensor)


def _check_tensor(model: Model, kind: str, tensor: Any) -> None:
    called = f"{kind} {tensor.name}"
    if not tensor.name:
        model.error("tensor_name", f"An {kind} has no name.", 'Write name: "…".')
        return
    if tensor.data_type == 0 and not model.completes_itself:
        model.error(
            "data_type",
            f"The {called} has no data_type.",
            "Write data_type: TYPE_STRING for text, TYPE_INT32 for token ids, …",
        )
    if not tensor.dims and model.completes_itself:
        return
    if not tensor.dims:
        model.error("dims", f"The {called} has no dims.", "Write dims: [ 1 ], or [ -1 ] for any.")
    elif any(size < 1 and size != ANY for size in tensor.dims):
        model.error(
            "dims",
            f"The {called} has dims {_shown(tensor.dims)}.",
            "A dimension is 1 or more, or -1 for any size.",
        )
    elif tensor.HasField("reshape"):
        _check_reshape(model, called, tensor)
    special = tensor.is_shape_tensor or tensor.is_non_linear_format_io
    if special and model.config.platform != "tensorrt_plan":
        model.error(
            "tensor_kind",
            f"The {called} is a shape tensor or of a non-linear format.",
            "Only TensorRT plans have them.",
        )
    if kind == "input" and tensor.format and len(tensor.dims) != 3:
        model.error(
            "dims", f"The {called} is an image without 3 dims.", "Write three, or no format."
        )


def _check_reshape(model: Model, called: str, tensor: Any) -> None:
    dims, shape = list(tensor.dims), list(tensor.reshape.shape)
    if not shape:
        allowed = model.config.max_batch_size > 0 and dims and _pieces(dims) == [1]
    else:
        allowed = all(size >= 1 or size == ANY for size in shape) and _pieces(dims) == _pieces(
            shape
        )
    if not allowed:
        model.error(
            "reshape",
            f"The {called} can't be reshaped from {_shown(dims)} to {_shown(shape)}.",
            "Both need the same number of elements; an empty shape needs batches.",
        )


def _pieces(sizes: list[int]) -> list[int]:
    """The element counts between the dimensions of any size."""
    counts = [1]
    for size in sizes:
        if size == ANY:
            counts.append(1)
        else:
            counts[-1] *= size
    return counts


def _shown(sizes: Any) -> str:
    return f"[ {', '.join(map(str, sizes))} ]"


def check_batching(model: Model) -> None:
    """Note what Triton refuses in max_batch_size and its schedulers."""
    config, largest = model.config, model.config.max_batch_size
    if largest < 0:
        model.error("max_batch_size", f"max_batch_size is {largest}.", "Write 0 for no batches.")
    sizes = list(config.dynamic_batching.preferred_batch_size)
    sizes += list(config.sequence_batching.oldest.preferred_batch_size)
    if wrong := [size for size in sizes if not 0 < size <= largest]:
        model.error(
            "preferred_batch_size",
            f"preferred_batch_size {wrong[0]} is not between 1 and max_batch_size, {largest}.",
            "Take it out: Triton then prefers the largest batch.",
        )
    _check_priorities(model)
    _check_batch_tensors(model)
    if config.response_cache.enable and config.model_transaction_policy.decoupled:
        model.error(
            "response_cache",
            "A decoupled model can't have a response cache.",
            "Take response_cache out.",
        )


def _check_priorities(model: Model) -> None:
    batching = model.config.dynamic_batching
    levels = batching.priority_levels
    named = [
        *([batching.default_priority_level] if levels else []),
        *batching.priority_queue_policy,
    ]
    if levels and not all(1 <= level <= levels for level in named):
        model.error(
            "priority",
            f"A priority level is not between 1 and priority_levels, {levels}.",
            "Write default_priority_level: 1.",
        )
    if not batching.preserve_ordering:
        return
    if levels > 1:
        model.error(
            "priority",
            "preserve_ordering and more than one priority level exclude each other.",
            "Take one of them out.",
        )
    policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
    if any(one.default_timeout_microseconds and one.timeout_action == DELAY for one in policies):
        model.error(
            "priority",
            "preserve_ordering and a queue policy that delays late requests exclude each other.",
            "Write timeout_action: REJECT, or take preserve_ordering out.",
        )


def _check_batch_tensors(model: Model) -> None:
    """What Triton adds to a batch is made from inputs and scattered to outputs."""
    config = model.config
    inputs, outputs = {one.name for one in config.input}, {one.name for one in config.output}
    for made in [*config.batch_input, *config.batch_output]:
        if len(made.source_input) != 1 or not set(made.source_input) <= inputs:
            model.error(
                "batch_tensor",
                "A batch_input or batch_output has not exactly one source_input, an input here.",
                f"Name one of: {', '.join(sorted(inputs))}.",
            )
    for made in config.batch_input:
        if type_name(made.data_type) not in BATCH_TYPES or made.kind not in made.Kind.values():
            model.error(
                "batch_tensor",
                "A batch_input has a data type or a kind that Triton can't make.",
                "Write data_type: TYPE_INT32 or TYPE_FP32.",
            )
    for scattered in config.batch_output:
        targets = list(scattered.target_name)
        if not targets or not set(targets) <= outputs or len(set(targets)) < len(targets):
            model.error(
                "batch_tensor",
                "A batch_output names no target, one twice, or one that is no output.",
                f"Name one of: {', '.join(sorted(outputs))}.",
            )
