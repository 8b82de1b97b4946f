"""What a tensor's type is called, and how many elements and bytes a tensor has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["ANY", "as_json", "byte_size", "elements", "kind_name", "type_name", "width"]

ANY = -1
WIDTHS = {
    "BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2,
    "UINT32": 4, "INT32": 4, "FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8,
}  # fmt: skip


def type_name(data_type: int) -> str:
    """A data type's name; a number that has none is shown as it is."""
    from tritonclient.grpc import model_config_pb2

    return kind_name(model_config_pb2.DataType, data_type)


def kind_name(enum: Any, value: int) -> str:
    """The name of an enumeration's value; any number may stand in a configuration."""
    return str(enum.Name(value)) if value in enum.values() else str(value)


def width(data_type: int) -> int:
    """Bytes of one element; 0 for strings, whose size is not known."""
    return WIDTHS.get(type_name(data_type).removeprefix("TYPE_"), 0)


def elements(dims: Sequence[int]) -> int:
    """Elements of a shape; -1 when a dim may be of any size, 0 for no dims, as Triton counts."""
    if ANY in dims:
        return ANY
    return math.prod(dims) if dims else 0


def byte_size(data_type: int, dims: Sequence[int]) -> int:
    """Bytes of a tensor of known shape."""
    return max(elements(dims), 0) * width(data_type)


def as_json(config: Any) -> dict[str, Any]:
    """A configuration as the Python backend passes it on: every field, dims as numbers."""
    from google.protobuf import json_format
    from tritonclient.grpc import model_config_pb2

    told = json_format.MessageToDict(
        model_config_pb2.ModelConfig() if config is None else config,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    for tensor in [*told["input"], *told["output"]]:
        tensor["dims"] = [int(size) for size in tensor["dims"]]
    return dict(told)
