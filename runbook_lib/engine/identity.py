"""What an engine directory says of itself: TensorRT-LLM's `config.json` since 0.8, and the lab's.

Both have the shape `{"version", "pretrained_config", "build_config"}`; the lab adds `lab`, with what
its engine is bound to. TensorRT-LLM writes down neither the SM nor the TensorRT that it was built
with: only a load on the right GPU tells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import BuildError

__all__ = ["EngineFacts", "inspect_engine"]

LIMITS = ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens", "max_beam_width")


@dataclass(frozen=True)
class EngineFacts:
    """An engine directory as it describes itself; `missing` names rank files that are not there."""

    version: str
    architecture: str
    dtype: str
    quantization: str
    kv_cache_dtype: str
    tp_size: int
    pp_size: int
    limits: dict[str, int]
    missing: tuple[str, ...]
    lab: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"ok": not self.missing}

    def __str__(self) -> str:
        rows = [
            ("built by", self.version if self.lab else f"TensorRT-LLM {self.version}"),
            ("model", f"{self.architecture}, {self.dtype}, quantisation {self.quantization}"),
            ("KV cache", self.kv_cache_dtype),
            ("ranks", f"tp {self.tp_size}, pp {self.pp_size}"),
            ("limits", ", ".join(f"{name} {value}" for name, value in self.limits.items())),
            ("missing", ", ".join(self.missing) or "no file"),
        ]
        return "\n".join(f"{label:<9} {text}" for label, text in rows)


def inspect_engine(folder: Path) -> EngineFacts:
    """Read an engine directory; loads nothing.

    Raises:
        BuildError: `config.json` is missing, or not an engine's.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
        model, built = config["pretrained_config"], config["build_config"]
        return _facts(folder, config, model, built)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BuildError(
            f"{folder} is no engine directory.",
            why=f"{path.name}: {_why(error)}",
            fix="Give the folder that trtllm-build (or page 01) wrote: config.json and rank*.engine.",
            page="01_build_engine",
        ) from None


def _facts(
    folder: Path, config: Mapping[str, Any], model: Mapping[str, Any], built: Mapping[str, Any]
) -> EngineFacts:
    quantization = model.get("quantization") or {}
    mapping = model["mapping"]
    tp, pp = int(mapping["tp_size"]), int(mapping.get("pp_size", 1))
    ranks = int(mapping.get("world_size", tp * pp))
    names = [f"rank{rank}.engine" for rank in range(ranks)]
    return EngineFacts(
        version=str(config["version"]),
        architecture=str(model["architecture"]),
        dtype=str(model["dtype"]),
        quantization=str(quantization.get("quant_algo") or "none"),
        kv_cache_dtype=str(quantization.get("kv_cache_quant_algo") or model["dtype"]),
        tp_size=tp,
        pp_size=pp,
        limits={name: int(built[name]) for name in LIMITS if built.get(name) is not None},
        missing=tuple(name for name in names if not (folder / name).is_file()),
        lab="lab" in config,
    )


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
