"""Engine directories as each release writes them, made from the recorded schema; no GPU took part."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import runbook_lib.engine

SCHEMA = json.loads(
    (Path(runbook_lib.engine.__file__).parent / "data" / "engine_config.json").read_text("utf-8")
)["releases"]
RELEASES = list(SCHEMA)
LIMITS = {
    "max_batch_size": 64,
    "max_input_len": 4096,
    "max_seq_len": 4608,
    "max_num_tokens": 8192,
    "max_beam_width": 1,
}


def fields_of(release):
    """The fields of build_config of a release with their defaults."""
    fields = {}
    for version, entry in SCHEMA.items():
        for name in entry.get("gone", []):
            fields.pop(name, None)
        fields |= entry["fields"]
        if version == release:
            return fields
    raise KeyError(release)


def config(release="0.16.0", *, tp=1, pp=1, quant=None, kv=None, **built):
    """A config.json of a release since 0.8."""
    fields = fields_of(release)
    limits = {name: value for name, value in LIMITS.items() if name in fields}
    if "max_output_len" in fields:
        limits["max_output_len"] = 512
    nested = {
        "lora_config": {"lora_dir": [], "max_lora_rank": 64, "lora_target_modules": []},
        "auto_parallel_config": {"world_size": 1, "gpus_per_node": 8},
        "plugin_config": {
            "dtype": "float16",
            "gpt_attention_plugin": "auto",
            "gemm_plugin": None,
            "remove_input_padding": True,
            "context_fmha": True,
            "paged_kv_cache": True,
            "tokens_per_block": 32,
        },
    }
    chosen = {name: value for name, value in nested.items() if name in fields}
    cache = {"kv_cache_type": "PAGED"} if "kv_cache_type" in fields else {}
    return {
        "version": release,
        "pretrained_config": {
            "architecture": "LlamaForCausalLM",
            "dtype": "float16",
            "logits_dtype": "float32",
            "vocab_size": 32000,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "mapping": {"world_size": tp * pp, "tp_size": tp, "pp_size": pp},
            "quantization": {"quant_algo": quant, "kv_cache_quant_algo": kv},
        },
        "build_config": {**fields, **chosen, **cache, **limits, **built},
    }


def old_config(*, tp=2, quant_mode=0):
    """As build.py wrote it before 0.8: flat, without a version."""
    return {
        "builder_config": {
            "name": "llama",
            "precision": "float16",
            "tensor_parallel": tp,
            "pipeline_parallel": 1,
            "num_layers": 32,
            "num_heads": 32,
            "hidden_size": 4096,
            "vocab_size": 32000,
            "max_batch_size": 8,
            "max_input_len": 2048,
            "max_output_len": 512,
            "max_beam_width": 1,
            "quant_mode": quant_mode,
        },
        "plugin_config": {
            "gpt_attention_plugin": "float16",
            "paged_kv_cache": True,
            "remove_input_padding": True,
        },
    }


def plan(tensorrt="10.7.0.23", *, size=4096, serialization=0, tag=b"ftrt"):
    """The beginning of a plan file, and filling."""
    head = tag + struct.pack("<I", serialization) + bytes(16)
    return (head + bytes(map(int, tensorrt.split("."))) + bytes(size))[:size]


def write(folder, content=None, plans=None):
    """An engine directory; by default one rank, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content or config()))
    for name, data in (plans or {"rank0.engine": plan()}).items():
        (folder / name).write_bytes(data)
    return folder
