"""From GGUF to OpenVINO IR, with every matrix in the precision asked for.

OpenVINO GenAI reads GGUF matrices in float16 only. So each of them is compared with its source,
bit by bit, and for float32 and bfloat16 it is then replaced by that source.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from checkpoint import Weights
from stage import StageError

__all__ = ["DTYPES", "MODEL", "save_ir", "write_ir"]

MODEL = "openvino_model.xml"
DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


def write_ir(gguf: Path, output: Path, weights: Weights, dtype: str) -> None:
    """Write the model, tokenizer and detokenizer as IR into `output`.

    Args:
        gguf: the model as GGUF, alone in its folder.
        output: a folder.
        weights: what the GGUF was made from.
        dtype: a key of `DTYPES`, in which matrices are stored.

    Raises:
        StageError: the import lost or changed a matrix.
    """
    import openvino as ov
    import openvino_genai

    openvino_genai.LLMPipeline(str(gguf), "CPU", enable_save_ov_model=True)
    for path in sorted(gguf.parent.glob("openvino_*")):
        shutil.move(path, output / path.name)
    model = ov.Core().read_model(output / MODEL)
    _store_matrices(model, weights, dtype)
    save_ir(model, output)


def save_ir(model: Any, folder: Path) -> None:
    """Write a model over the one in `folder`, by way of a second file, since it may map the first."""
    import openvino as ov

    ov.save_model(model, folder / "new.xml", compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        (folder / f"new{suffix}").replace((folder / MODEL).with_suffix(suffix))


def _store_matrices(model: Any, weights: Weights, dtype: str) -> None:
    left = {name for name, tensor in weights.items() if tensor.ndim == 2}
    for node in model.get_ops():
        name = re.sub(r"\[(\d+)\]", r".\1", node.get_friendly_name())
        if node.get_type_name() != "Constant" or name not in left:
            continue
        if not np.array_equal(node.data, weights[name].astype(np.float16)):
            raise StageError(f"OpenVINO read {name} from GGUF with other values than were written")
        left.remove(name)
        if dtype != "float16":
            _replace(node, weights[name], dtype)
    if left:
        raise StageError(f"OpenVINO's import of the GGUF lost {len(left)} matrices: {min(left)}")
    model.validate_nodes_and_infer_types()


def _replace(node: Any, values: Any, dtype: str) -> None:
    import openvino as ov

    kind = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16}[dtype]
    constant = ov.op.Constant(kind, ov.Shape(values.shape), values.ravel().tolist())
    constant.set_friendly_name(node.get_friendly_name())
    for target in list(node.output(0).get_target_inputs()):
        target.replace_source_output(constant.output(0))
