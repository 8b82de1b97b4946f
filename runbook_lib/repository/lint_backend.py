"""Which backend Triton takes for a model: the one named, else what files and names tell.

Source: `AutoCompleteBackendFields` and `ValidateModelConfig` in triton-inference-server/core,
src/model_config_utils.cc, release 24.10 (Triton 2.51).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["OF_PLATFORM", "Choice", "choose"]

TENSORFLOW = {
    "tensorflow_savedmodel": "model.savedmodel",
    "tensorflow_graphdef": "model.graphdef",
}
# Backends after TensorFlow, in Triton's order: its file, and the platform that names it.
OTHERS = (
    ("tensorrt", "model.plan", "tensorrt_plan"),
    ("onnxruntime", "model.onnx", "onnxruntime_onnx"),
    ("openvino", "model.xml", ""),
    ("pytorch", "model.pt", "pytorch_libtorch"),
    ("python", "model.py", ""),
)
# Platforms belong to these backends only, and these backends to them.
OF_PLATFORM = dict.fromkeys(TENSORFLOW, "tensorflow") | {
    platform: backend for backend, _, platform in OTHERS if platform
}
FILES_ONLY = {"tensorrt", "pytorch"}  # a folder of that name is none of theirs


@dataclass(frozen=True)
class Choice:
    """A backend (empty: Triton finds none), the platform, and the file that the backend opens."""

    backend: str
    platform: str
    file: str


def choose(config: Any, name: str, first: Path | None) -> Choice:
    """What Triton completes.

    Args:
        config: the parsed configuration; None when there is none.
        name: the model's.
        first: its first folder by name, version or not; None when it has none.
    """
    backend, platform, file = (
        (config.backend, config.platform, config.default_model_filename) if config else ("",) * 3
    )
    there = {one.name for one in first.iterdir()} if first is not None else set[str]()
    untold = not platform and not file
    if not platform and backend in {"", "tensorflow"}:
        platform = _tensorflow(file, first, there)
    if platform in TENSORFLOW:
        return Choice(backend or "tensorflow", platform, file or TENSORFLOW[platform])
    for known, its_file, its_platform in OTHERS:
        if not backend and (
            file == its_file
            or (its_platform and platform == its_platform)
            or (untold and first is not None and _has(known, its_file, first, there))
        ):
            backend = known
        if backend == known:
            return Choice(backend, platform or its_platform, file or its_file)
    if not backend and untold and "." in name:
        # A model `any.identity` is served by the backend `identity`.
        backend = name.partition(".")[2]
        return Choice(backend, "", f"model.{backend}")
    return Choice(backend, platform, file)


def _tensorflow(file: str, first: Path | None, there: set[str]) -> str:
    for platform, its_file in TENSORFLOW.items():
        if file == its_file:
            return platform
    if file or first is None:
        return ""
    if "model.graphdef" in there and not (first / "model.graphdef").is_dir():
        return "tensorflow_graphdef"
    if "model.savedmodel" in there and (first / "model.savedmodel").is_dir():
        return "tensorflow_savedmodel"
    return ""


def _has(backend: str, file: str, first: Path, there: set[str]) -> bool:
    return file in there and not (backend in FILES_ONLY and (first / file).is_dir())
