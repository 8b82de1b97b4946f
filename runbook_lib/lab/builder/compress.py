"""Weight compression: the matrices in 8 or 4 bits, with or without calibration texts."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
from ir_model import MODEL, save_ir
from stage import StageError

__all__ = ["QUANTIZATIONS", "check_quantization", "compress"]

QUANTIZATIONS = ("none", "int8", "int4", "int4_awq")
GROUP = 32
CALIBRATION = "calibration.txt"
CALIBRATION_TEXTS = 64


def check_quantization(quantization: str, config: dict[str, Any], model_dir: Path) -> None:
    """Look at what a quantisation needs before anything is converted.

    Raises:
        StageError: the channels don't divide into groups, or there are no calibration texts.
    """
    if not quantization.startswith("int4"):
        return
    for key in ("hidden_size", "intermediate_size"):
        if config[key] % GROUP:
            raise StageError(
                f"--quantization {quantization} scales groups of {GROUP} channels: "
                f"{key} {config[key]} does not divide by it; use int8 or none"
            )
    path = model_dir / CALIBRATION
    if quantization == "int4_awq" and not (path.is_file() and path.read_text("utf-8").strip()):
        raise StageError(f"--quantization int4_awq needs {path}: one text a line")


def compress(folder: Path, quantization: str, model_dir: Path) -> None:
    """Compress the IR in `folder` in place.

    int8: one scale and zero point a channel. int4: one scale a group of 32 channels, in every
    layer. int4_awq: the same, with scales that calibration texts choose.
    """
    import nncf
    import openvino as ov

    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = ov.Core().read_model(folder / MODEL)
    modes = nncf.CompressWeightsMode
    options: dict[str, Any] = {"mode": modes.INT8_ASYM}
    if quantization != "int8":
        options = {"mode": modes.INT4_SYM, "group_size": GROUP, "all_layers": True}
    if quantization == "int4_awq":
        texts = nncf.Dataset(_calibration(model_dir))
        options |= {"dataset": texts, "awq": True, "scale_estimation": True}
    with contextlib.redirect_stdout(io.StringIO()):  # progress bars
        smaller = nncf.compress_weights(model, **options)
    save_ir(smaller, folder)


def _calibration(folder: Path) -> list[dict[str, Any]]:
    """Model inputs from the checkpoint's own calibration texts (never from the held-out ones)."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = (folder / CALIBRATION).read_text(encoding="utf-8").splitlines()
    rows = []
    for text in [text for text in texts if text.strip()][:CALIBRATION_TEXTS]:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        rows.append(
            {
                "input_ids": ids,
                "attention_mask": np.ones_like(ids),
                "position_ids": np.arange(ids.shape[1], dtype=np.int64)[None, :],
                "beam_idx": np.zeros(1, dtype=np.int32),
            }
        )
    return rows
