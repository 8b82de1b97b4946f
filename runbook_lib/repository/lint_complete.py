"""What a model's `auto_complete_config` makes of its configuration.

Source: `ModelConfig` in triton-inference-server/python_backend,
src/resources/triton_python_backend_utils.py, release 24.10 (Triton 2.51).
"""

from __future__ import annotations

from typing import Any

from runbook_lib.repository.lint_evaluate import UNKNOWN, Native, Stops
from runbook_lib.repository.lint_sizes import as_json, type_name

__all__ = ["Completed"]

ALLOWED = {
    "input": ("name", "data_type", "dims", "optional"),
    "output": ("name", "data_type", "dims"),
}


class Completed(Native):
    """The configuration that the method is given.

    Attributes:
        config: what it is now; None once that can't be known.
        dropped: why Triton will drop all of it; empty when it will not.
    """

    methods = frozenset(
        {
            "add_input",
            "add_output",
            "as_dict",
            "set_dynamic_batching",
            "set_max_batch_size",
            "set_model_transaction_policy",
        }
    )

    def __init__(self, config: Any, name: str) -> None:
        from tritonclient.grpc import model_config_pb2

        self.config = model_config_pb2.ModelConfig()
        if config is not None:
            self.config.CopyFrom(config)
        self.name = name
        self.dropped = ""

    def run(self, method: str, given: list[Any]) -> Any:
        """Do what the method of that name does.

        Raises:
            Stops: it refuses what it is given.
        """
        if method == "as_dict":
            return as_json(self.config) if self.config is not None else UNKNOWN
        if self.config is None:
            return None
        if method == "set_dynamic_batching":
            self._set_dynamic_batching()
            return None
        if len(given) != 1:
            raise Stops("TypeError", f"{method}() takes one argument")
        if method == "set_max_batch_size":
            self._set_max_batch_size(given[0])
        elif method == "set_model_transaction_policy":
            self._set_policy(given[0])
        else:
            self._add(method.removeprefix("add_"), given[0])
        return None

    def _set_dynamic_batching(self) -> None:
        which = self.config.WhichOneof("scheduling_choice")
        if which in {"sequence_batching", "ensemble_scheduling"}:
            raise Stops("ValueError", f"the configuration has {which}")
        self.config.dynamic_batching.SetInParent()

    def _set_max_batch_size(self, size: Any) -> None:
        if not isinstance(size, int | float):
            self._forget(size, "max_batch_size")
        elif self.config.max_batch_size > size:
            raise Stops(
                "ValueError",
                f"the configuration has max_batch_size {self.config.max_batch_size}, more than {size}",
            )
        elif size != int(size):
            self.dropped = f"max_batch_size {size}"
        else:
            self.config.max_batch_size = int(size)

    def _set_policy(self, policy: Any) -> None:
        if not isinstance(policy, dict):
            self._forget(policy, "the transaction policy")
            return
        if set(policy) - {"decoupled"}:
            raise Stops("ValueError", "the transaction policy has more than decoupled")
        wanted = policy.get("decoupled")
        if wanted is None:
            return
        there = self.config.HasField("model_transaction_policy")
        if there and self.config.model_transaction_policy.decoupled != wanted:
            raise Stops("ValueError", "the configuration has another decoupled")
        self.config.model_transaction_policy.decoupled = bool(wanted)

    def _add(self, kind: str, tensor: Any) -> None:
        if not isinstance(tensor, dict):
            self._forget(tensor, f"the {kind}")
            return
        for wanted in ALLOWED[kind][:3]:
            if wanted not in tensor:
                raise Stops("ValueError", f"an {kind} without {wanted}")
        if unknown := sorted(set(tensor) - set(ALLOWED[kind])):
            raise Stops("ValueError", f"an {kind} with {unknown[0]}")
        name, data_type, dims = tensor["name"], tensor["data_type"], tensor["dims"]
        if not isinstance(name, str) or not isinstance(data_type, str) or dims is UNKNOWN:
            self.forget()
            return
        self._merge(kind, name, data_type, dims, tensor.get("optional"))

    def _merge(self, kind: str, name: str, data_type: str, dims: Any, optional: Any) -> None:
        tensors = getattr(self.config, kind)
        found = next((one for one in tensors if one.name == name), None)
        if found is None:
            found = tensors.add(name=name)
        elif found.data_type and type_name(found.data_type) != data_type:
            raise Stops("ValueError", f"{kind} {name} is {type_name(found.data_type)} in the file")
        elif len(found.dims) and list(found.dims) != dims:
            raise Stops("ValueError", f"{kind} {name} has the dims {list(found.dims)} in the file")
        elif kind == "input" and optional is not None and found.optional != optional:
            raise Stops("ValueError", f"{kind} {name} is optional on one side only")
        number, sizes = _number(data_type), _sizes(dims)
        if number is None or sizes is None:
            self.dropped = f"{name} with data_type {data_type} and dims {dims}"
            return
        found.data_type = number
        del found.dims[:]
        found.dims.extend(sizes)
        if kind == "input" and optional is not None:
            found.optional = bool(optional)

    def forget(self) -> None:
        """From here on nobody knows what it is."""
        self.config = None

    def _forget(self, value: Any, what: str) -> None:
        """Nobody knows what comes out; a plain value of the wrong kind is refused for sure."""
        if value is None or isinstance(value, str):
            raise Stops("TypeError", f"{what} can't be {value!r}")
        self.config = None


def _sizes(dims: Any) -> list[int] | None:
    """Dims as JSON's reader of protobuf takes them: a list of whole numbers, or of their texts."""
    try:
        return [int(size) for size in dims] if isinstance(dims, list) else None
    except (TypeError, ValueError):
        return None


def _number(data_type: str) -> int | None:
    """The number of a data type; Triton passes over a name that it doesn't know."""
    from tritonclient.grpc import model_config_pb2

    return dict(model_config_pb2.DataType.items()).get(data_type)
