"""The steps of the llmapi track: quantise where wanted, lay the Triton model out, serve.

Triton is started without launch_triton_server.py: that passes --disable-auto-complete-config, and
then `triton_config` of model.yaml, which says whether answers are streamed, is never read (Triton's
docs/getting_started/llm.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runbook_lib.engine.command import Command, options, written
from runbook_lib.engine.families import FAMILIES
from runbook_lib.engine.llmapi_releases import ApiRelease
from runbook_lib.engine.releases import version_key
from runbook_lib.profile import DeploymentProfile

__all__ = ["HUB", "api_commands", "model_yaml", "serve_yaml"]

HUB = "hf://"  # what follows is a name that LLM() fetches itself

SOURCE = "https://github.com/NVIDIA/TensorRT-LLM.git"
MODELOPT = "https://github.com/NVIDIA/TensorRT-Model-Optimizer.git"
READY_MADE = ("none", "int4_gptq")  # the checkpoint is served as it is
CALIBRATION_TEXTS = 512
AWQ_BLOCK = 128
FREE_MEMORY = 0.9
HTTP, GRPC, METRICS = 8000, 8001, 8002

Mapped = dict[str, Any]


def api_commands(
    profile: DeploymentProfile, found: ApiRelease, weights: str, work: str
) -> list[Command]:
    """From a checkpoint to Triton (`launch`), or to an OpenAI server (`serve`)."""
    weights = weights.removeprefix(HUB)
    quantised = profile.quantization not in READY_MADE
    model = f"{work}/checkpoint" if quantised else weights
    steps = [_clone(SOURCE, f"v{found.version}", f"{work}/TensorRT-LLM")]
    if quantised:
        steps += [
            _clone(MODELOPT, found.modelopt, f"{work}/ModelOpt"),
            _quantise(profile, weights, work),
        ]
    return [*steps, *_repository(profile, found, model, work), *_serve(profile, found, model, work)]


def model_yaml(profile: DeploymentProfile, version: str, model: str) -> Mapped:
    """What `model.yaml` of the Triton model holds: the arguments of LLM(), and Triton's own.

    Args:
        profile: an llmapi profile.
        version: the release that reads it.
        model: the checkpoint's folder.
    """
    limits = profile.limits.model_dump()
    ranks = {
        "tensor_parallel_size": profile.tensor_parallel_size,
        "pipeline_parallel_size": profile.pipeline_parallel_size,
    }
    return {
        "model": model,
        "backend": "pytorch",
        **ranks,
        **limits,
        **_common(profile, version),
        # Triton makes no batches here: LLM() does.
        "triton_config": {"max_batch_size": 0, "decoupled": profile.streaming},
    }


def serve_yaml(profile: DeploymentProfile, version: str) -> Mapped:
    """What trtllm-serve has no option for in every release."""
    return {"max_input_len": profile.max_input_len, **_common(profile, version)}


def _common(profile: DeploymentProfile, version: str) -> Mapped:
    family = FAMILIES[profile.model_family]
    since = family.llmapi.reuse_since if family.llmapi else ""
    experts = {
        "moe_tensor_parallel_size": profile.effective_moe_tensor_parallel_size,
        "moe_expert_parallel_size": profile.effective_moe_expert_parallel_size,
    }
    cache = {
        "dtype": "fp8" if profile.kv_cache_dtype == "fp8" else "auto",
        "free_gpu_memory_fraction": FREE_MEMORY,
        "enable_block_reuse": not since or version_key(version) >= version_key(since),
    }
    return {
        "dtype": profile.dtype,
        **(experts if family.experts else {}),
        "enable_chunked_prefill": profile.effective_max_num_tokens < profile.max_input_len,
        "kv_cache_config": cache,
    }


def _clone(source: str, tag: str, target: str) -> Command:
    words = ("env", "GIT_LFS_SKIP_SMUDGE=1", "git", "clone", "--depth", "1", "--branch", tag)
    return Command("get_scripts", (*words, source, target))


def _quantise(profile: DeploymentProfile, weights: str, work: str) -> Command:
    """ModelOpt writes a Hugging Face checkpoint; its FP8 KV cache must be said no to."""
    script = f"{work}/ModelOpt/examples/llm_ptq/hf_ptq.py"
    cache = "fp8" if profile.kv_cache_dtype == "fp8" else "none"
    words = (
        *options(pyt_ckpt_path=weights, export_path=f"{work}/checkpoint"),
        *options(qformat=profile.quantization, kv_cache_qformat=cache),
        *options(calib_size=CALIBRATION_TEXTS),
        *(options(awq_block_size=AWQ_BLOCK) if "awq" in profile.quantization else ()),
    )
    return Command("quantize", ("python3", script, *words))


def _repository(
    profile: DeploymentProfile, found: ApiRelease, model: str, work: str
) -> list[Command]:
    target = f"{work}/repository"
    template = f"{work}/TensorRT-LLM/triton_backend/all_models/llmapi/tensorrt_llm"
    said = _yaml(model_yaml(profile, found.version, model))
    launch = (
        f"--model-repository={target}",
        *(f"--http-port={HTTP}", f"--grpc-port={GRPC}", f"--metrics-port={METRICS}"),
    )
    return [
        Command("copy_templates", ("mkdir", "-p", target)),
        Command("copy_templates", ("cp", "-r", template, target)),
        written("write_model_yaml", f"{target}/tensorrt_llm/1/model.yaml", said),
        Command("launch", ("tritonserver", *launch)),
    ]


def _serve(profile: DeploymentProfile, found: ApiRelease, model: str, work: str) -> list[Command]:
    file = f"{work}/llm_options.yaml"
    limits = profile.limits.model_dump(exclude={"max_input_len"})
    experts = FAMILIES[profile.model_family].experts
    words = (
        # A server in a container is asked from outside.
        *options(backend="pytorch", host="0.0.0.0", port=HTTP),  # noqa: S104
        *options(**limits),
        *options(tp_size=profile.tensor_parallel_size, pp_size=profile.pipeline_parallel_size),
        *(options(ep_size=profile.effective_moe_expert_parallel_size) if experts else ()),
        *options(extra_llm_api_options=file),
    )
    return [
        written("write_serve_options", file, _yaml(serve_yaml(profile, found.version))),
        Command("serve", ("trtllm-serve", "serve", model, *words)),
    ]


def _yaml(values: Mapping[str, Any], indent: str = "") -> str:
    """Mappings of plain values as YAML; a JSON scalar is YAML too."""
    lines = []
    for name, one in values.items():
        if isinstance(one, Mapping):
            lines.append(f"{indent}{name}:\n{_yaml(one, indent + '  ')}")
        else:
            lines.append(f"{indent}{name}: {json.dumps(one, ensure_ascii=False)}\n")
    return "".join(lines)
