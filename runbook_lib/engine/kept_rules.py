"""What trtllm-build refuses after its parser took it, or takes and passes over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runbook_lib.engine.releases import version_key
from runbook_lib.errors import PlanError

__all__ = ["KEPT_RULES", "PASSED_OVER", "check_kept"]

Kept = Mapping[str, tuple[str, ...]]

BUILD = "tensorrt_llm/commands/build.py"
LOGITS = ("--gather_context_logits", "--gather_all_token_logits")
SWIGLU = ("--gemm_swiglu_plugin", "--low_latency_gemm_swiglu_plugin")

# Options that say in another way what the commands here say, and why they are left out.
PASSED_OVER = {
    "--build_config": "with it every limit comes from that file, and none from the line: write them"
    " as flags",
    "--model_config": "--checkpoint_dir is taken before it",
}


@dataclass(frozen=True)
class KeptRule:
    """Flags that a release's parser takes and its builder or backend does not."""

    applies: Callable[[Kept, str], object]
    told: str
    instead: str
    source: str


def _is(kept: Kept, flag: str, word: str = "enable") -> bool:
    return kept.get(flag) == (word,)


def _is_on(kept: Kept, flag: str) -> bool:
    return flag in kept and not _is(kept, flag, "disable")


def _drafts(kept: Kept) -> bool:
    return kept.get("--max_draft_len", ("0",)) != ("0",)


KEPT_RULES = (
    KeptRule(
        lambda kept, _: _is(kept, "--kv_cache_type", "continuous"),
        "--kv_cache_type continuous: Triton's backend batches in flight, which needs a paged cache",
        "--kv_cache_type paged",
        "cpp/include/tensorrt_llm/runtime/modelConfig.h, supportsInflightBatching",
    ),
    KeptRule(
        lambda kept, version: (
            _is(kept, "--streamingllm") and version_key(version) >= version_key("1.0.0")
        ),
        "--streamingllm enable: the builder of 1.x ends with an assertion",
        "leave --streamingllm out",
        BUILD,
    ),
    KeptRule(
        lambda kept, _: _is(kept, "--multiple_profiles") and "--opt_num_tokens" in kept,
        "--multiple_profiles enable with --opt_num_tokens: the builder takes one of them",
        "leave --opt_num_tokens out",
        BUILD,
    ),
    KeptRule(
        lambda kept, _: _drafts(kept) and any(name in kept for name in LOGITS),
        "logits of the context with --max_draft_len: the builder has not both",
        "--gather_generation_logits alone",
        BUILD,
    ),
    KeptRule(
        lambda kept, _: (
            any(_is_on(kept, name) for name in SWIGLU) and _is(kept, "--use_fused_mlp", "disable")
        ),
        "a gemm_swiglu plugin with --use_fused_mlp disable: it works in the fused MLP only",
        "--use_fused_mlp enable",
        BUILD,
    ),
    KeptRule(
        lambda kept, _: _is(kept, "--user_buffer") and not _is(kept, "--reduce_fusion"),
        "--user_buffer enable without --reduce_fusion enable",
        "--reduce_fusion enable beside it",
        "tensorrt_llm/plugin/plugin.py",
    ),
)


PAGED_CONTEXT = KeptRule(
    lambda kept, _: _is(kept, "--use_paged_context_fmha"),
    "--use_paged_context_fmha enable: it reads no INT8 cache, and an FP8 one only under FP8 weights",
    "leave --use_paged_context_fmha out",
    "tensorrt_llm/builder.py",
)


def check_kept(kept: Kept, version: str, *, paged_context: bool) -> None:
    """Refuse flags that can't be built with, or served.

    Args:
        kept: the flags with their values.
        version: the release.
        paged_context: whether the KV cache can be read by paged context attention.

    Raises:
        PlanError: every reason, and what to write instead.
    """
    table = KEPT_RULES if paged_context else (*KEPT_RULES, PAGED_CONTEXT)
    rules = [one for one in table if one.applies(kept, version)]
    if rules:
        raise PlanError(
            f"TensorRT-LLM {version} can't do what the line asks for.",
            why="; ".join(one.told for one in rules),
            fix="; ".join(one.instead for one in rules),
            page="01_build_engine",
        )
