"""The steps that lay an engine out and serve it: copy the templates, fill them, launch Triton."""

from __future__ import annotations

from collections.abc import Mapping

from runbook_lib.engine.command import Command, options
from runbook_lib.engine.releases import Release
from runbook_lib.profile import DeploymentProfile

__all__ = ["MODELS", "repository", "template_paths"]

MODELS = ("ensemble", "preprocessing", "postprocessing", "tensorrt_llm")
ESCAPES_SINCE = "0.16.0"


def template_paths(weights: str, work: str) -> tuple[str, ...]:
    """The paths that are written into templates."""
    return weights, f"{work}/engine"


def repository(
    profile: DeploymentProfile, release: Release, weights: str, work: str
) -> list[Command]:
    """From an engine to a running server."""
    target = f"{work}/repository"
    templates = release.place("templates", work)
    launch = options(world_size=profile.world_size, model_repo=target)
    return [
        Command("copy_templates", ("mkdir", "-p", target)),
        Command("copy_templates", ("cp", "-r", *(f"{templates}/{one}" for one in MODELS), target)),
        *_fill(profile, release, weights, work),
        Command("launch", ("python3", release.place("launch", work), *launch)),
    ]


def _fill(profile: DeploymentProfile, release: Release, weights: str, work: str) -> list[Command]:
    script = release.place("fill", work)
    found = []
    for model, values in _values(profile, *template_paths(weights, work)).items():
        # Since 0.19 a name that the template lacks is refused; before, it was ignored.
        known = {key: one for key, one in values.items() if key in release.templates[model].names}
        pairs = _substitutions(known, escapes=release.since(ESCAPES_SINCE))
        file = f"{work}/repository/{model}/config.pbtxt"
        found.append(Command("fill_templates", ("python3", script, "-i", file, pairs)))
    return found


def _values(profile: DeploymentProfile, tokenizer: str, engine: str) -> dict[str, dict[str, str]]:
    """Every value that a release may ask for, by model."""
    batch = {"triton_max_batch_size": str(profile.max_batch_size)}
    queue = {"max_queue_delay_microseconds": "0", "max_queue_size": "0"}
    words = {"tokenizer_dir": tokenizer}
    before = {"preprocessing_instance_count": "1", "add_special_tokens": "true"}
    after = {"postprocessing_instance_count": "1", "skip_special_tokens": "true"}
    return {
        "ensemble": batch | {"logits_datatype": "TYPE_FP32"},
        "preprocessing": words | batch | before | queue,
        "postprocessing": words | batch | after,
        "tensorrt_llm": batch | queue | _runtime(profile, engine),
    }


def _runtime(profile: DeploymentProfile, engine: str) -> dict[str, str]:
    return {
        "triton_backend": "tensorrtllm",
        "decoupled_mode": _word(profile.streaming),
        "engine_dir": engine,
        "batching_strategy": "inflight_fused_batching",
        "max_beam_width": str(profile.max_beam_width),
        "kv_cache_free_gpu_mem_fraction": "0.9",
        "enable_kv_cache_reuse": _word(profile.paged_context),
        "enable_chunked_context": "false",
        "exclude_input_in_output": "true",
        "encoder_input_features_data_type": "TYPE_FP16",
        "prompt_embedding_table_data_type": "TYPE_FP16",
        "logits_datatype": "TYPE_FP32",
    }


def _substitutions(pairs: Mapping[str, str], *, escapes: bool) -> str:
    """`key:value,…` as fill_template.py reads it: it splits at `,`, then at `:`, unescaping at each."""
    if not escapes:
        return ",".join(f"{key}:{value}" for key, value in pairs.items())
    return ",".join(_escaped(f"{key}:{_escaped(value, ':')}", ",") for key, value in pairs.items())


def _escaped(value: str, separator: str) -> str:
    return value.replace("\\", "\\\\").replace(separator, f"\\{separator}")


def _word(switch: object) -> str:
    return "true" if switch else "false"
