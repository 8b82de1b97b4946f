"""Convert a Hugging Face checkpoint: precision, quantisation and KV-cache type are decided here.

The stages and their options follow TensorRT-LLM's. Writes `config.json` in the shape of its
checkpoints, and the model as OpenVINO IR.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from checkpoint import read_config, read_weights
from compress import QUANTIZATIONS, check_quantization, compress
from gguf_model import write_gguf
from ir_model import DTYPES, write_ir
from stage import StageError, phase, run, whole

__all__ = ["main"]

# The runtime knows bf16 and u4 too: bf16 only runs on CPUs that compute in it, and u4 made this
# kind of model babble (README.md).
KV_TYPES = ("f32", "f16", "u8")


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--model_dir", type=Path, required=True, help="Hugging Face folder of a Llama")
    add("--output_dir", type=Path, required=True, help="new folder of the checkpoint")
    add("--dtype", choices=DTYPES, required=True, help="in which matrices are stored")
    add("--quantization", choices=QUANTIZATIONS, default="none", help="of the matrices")
    add("--kv_cache_dtype", choices=KV_TYPES, default="f16", help="of keys and values")
    add("--tp_size", type=int, default=1, help="ranks; the lab runs one")
    options = parser.parse_args()
    run(lambda: convert(options))


def convert(options: argparse.Namespace) -> None:
    """Check everything first, then write the checkpoint whole.

    Raises:
        StageError: an input is wrong; nothing is left behind.
    """
    if options.tp_size != 1:
        raise StageError(
            f"--tp_size {options.tp_size}: the lab runs one process per engine, "
            "so ranks can't cooperate; use 1"
        )
    with phase("read"):
        config = read_config(options.model_dir)
        weights = read_weights(options.model_dir, config)
        check_quantization(options.quantization, config, options.model_dir)
    with whole(options.output_dir) as work, tempfile.TemporaryDirectory(dir=work.parent) as scratch:
        gguf = Path(scratch) / "model.gguf"
        with phase("gguf"):
            write_gguf(gguf, config, weights, options.model_dir / "tokenizer.json")
        with phase("ir"):
            write_ir(gguf, work, weights, options.dtype)
        if options.quantization != "none":
            with phase("quantize"):
                compress(work, options.quantization, options.model_dir)
        text = json.dumps(_described(config, options), indent=2) + "\n"
        (work / "config.json").write_text(text, encoding="utf-8")


def _described(config: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    copied = (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "eos_token_id",
    )
    return {
        "architecture": "LlamaForCausalLM",
        "dtype": options.dtype,
        **{key: config[key] for key in copied},
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
        "quantization": {
            "quant_algo": None if options.quantization == "none" else options.quantization,
            "kv_cache_quant_algo": options.kv_cache_dtype,
        },
    }


if __name__ == "__main__":
    main()
