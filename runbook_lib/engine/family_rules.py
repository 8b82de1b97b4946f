"""Rules of the model families: which release has them, in which precision, and split how."""

from __future__ import annotations

from runbook_lib.engine.families import FAMILIES, EngineSupport
from runbook_lib.engine.releases import release
from runbook_lib.engine.wish import FLOATS, Rule, Wish, is_converted

__all__ = ["API_FAMILY_RULES", "ENGINE_FAMILY_RULES", "FAMILY_RULES"]

README = "README.md and convert_checkpoint.py of the family's example; data/families.json"
MODELS = "TensorRT-LLM docs/source/models/supported-models.md; data/families.json"
MATRIX = "TensorRT-LLM docs/source/features/quantization.md; data/families.json"
NOTES = "TensorRT-LLM docs/source/release-notes.md, "
BUILT = tuple(name for name, one in FAMILIES.items() if one.engine)
SERVED = tuple(name for name, one in FAMILIES.items() if one.llmapi)


def _engine(wish: Wish) -> EngineSupport | None:
    return wish.family.engine if wish.family else None


def _no_format(wish: Wish) -> bool:
    support = _engine(wish)
    if support is None:
        return False
    quantization = wish.profile.quantization
    if is_converted(wish.profile) or quantization == "int4_gptq":
        return quantization not in support.converted
    return quantization not in support.calibrated


def _splits_experts(wish: Wish) -> bool:
    return wish.profile.effective_moe_expert_parallel_size > 1


def _names_experts(wish: Wish) -> bool:
    profile = wish.profile
    return (profile.moe_tensor_parallel_size, profile.moe_expert_parallel_size) != (None, None)


def _no_context_flag(wish: Wish) -> bool:
    support = _engine(wish)
    if support is None or wish.family is None or wish.profile.context_parallel_size == 1:
        return False
    found = release(wish.version).tools
    names = [support.converter, *([] if is_converted(wish.profile) else ["quantize"])]
    return wish.family.experts or any(
        name not in found or found[name].name_of("--cp_size") is None for name in names
    )


FAMILY_RULES = (
    Rule(
        "family",
        lambda wish: wish.family is None,
        "model_family {model_family!r} is not known here",
        f"{{near}}known: {', '.join(FAMILIES)}",
    ),
    Rule(
        "dense-experts",
        lambda wish: wish.family is not None and not wish.family.experts and _names_experts(wish),
        "{model_family} has no experts: moe_tensor_parallel_size and moe_expert_parallel_size say"
        " nothing about it",
        "leave both out",
    ),
)

ENGINE_FAMILY_RULES = (
    Rule(
        "family-engine",
        lambda wish: wish.family is not None and wish.family.engine is None,
        "{model_family} has no converter: no release builds an engine of it",
        f"track llmapi; engines are built of {', '.join(BUILT)}",
        README,
    ),
    Rule(
        "family-release",
        lambda wish: (found := _engine(wish)) and wish.before(found.since),
        "{release} has no {model_family}",
        "{since} or later",
        README,
    ),
    Rule(
        "family-format",
        _no_format,
        "no source has {model_family} with quantization {quantization} and a KV cache in"
        " {kv_cache_dtype} on the engine track",
        "quantization is one of {formats}; a KV cache in dtype is converted without calibration",
        README,
    ),
    Rule(
        "family-stages",
        lambda wish: (
            (found := _engine(wish))
            and not found.pipeline
            and wish.profile.pipeline_parallel_size > 1
        ),
        "{model_family}: its converter can't split a model into pipeline stages",
        "use tensor parallelism",
        README,
    ),
    Rule(
        "family-tensor",
        lambda wish: (
            (found := _engine(wish)) and not found.tensor and wish.profile.tensor_parallel_size > 1
        ),
        "{model_family}: only its small variant is built with tensor parallelism",
        "one GPU, or track llmapi",
        README,
    ),
    Rule(
        "family-experts",
        lambda wish: (
            (found := _engine(wish)) and not found.expert_parallel and _splits_experts(wish)
        ),
        "{model_family}: no source has it with expert parallelism on the engine track",
        "moe_expert_parallel_size 1, or track llmapi",
        README,
    ),
    Rule(
        "experts-calibrated",
        lambda wish: (
            wish.family is not None
            and wish.family.experts
            and _splits_experts(wish)
            and not is_converted(wish.profile)
        ),
        "quantize.py has no option for expert parallelism; it shares every expert over all ranks",
        "moe_expert_parallel_size 1, or a quantisation without calibration, or track llmapi",
        "examples/quantization/quantize.py",
    ),
    Rule(
        "context-parallel",
        _no_context_flag,
        "context_parallel_size {context_parallel_size}: no source has {release} split the context"
        " of {model_family} that way",
        "context_parallel_size 1; llama has it since 0.16.0",
        NOTES + "0.16.0",
    ),
    Rule(
        "family-gpu",
        lambda wish: (found := _engine(wish)) and wish.on_older_than(found.oldest_sm),
        "{gpu} (sm{sm}) is older than {model_family} needs on the engine track",
        "H100 and later, or track llmapi",
        README,
    ),
)


def _api_before(wish: Wish) -> bool:
    support = wish.family.llmapi if wish.family else None
    return support is not None and wish.before(support.since)


def _api_format(wish: Wish) -> bool:
    support = wish.family.llmapi if wish.family else None
    return support is not None and wish.profile.quantization not in support.formats


def _long_prompts(wish: Wish) -> bool:
    support = wish.family.llmapi if wish.family else None
    profile = wish.profile
    longer = profile.effective_max_num_tokens < profile.max_input_len
    return support is not None and not support.chunks and longer


API_FAMILY_RULES = (
    Rule(
        "api-family",
        lambda wish: wish.family is not None and wish.family.llmapi is None,
        "{model_family} is not among the models of the PyTorch backend",
        f"track engine; the PyTorch backend serves {', '.join(SERVED)}",
        MODELS,
    ),
    Rule(
        "api-family-release",
        _api_before,
        "{release} has no {model_family}",
        "{since} or later",
        MODELS,
    ),
    Rule(
        "api-format",
        _api_format,
        "the PyTorch backend reads no {model_family} in {quantization}",
        "quantization is one of {formats}",
        MATRIX,
    ),
    Rule(
        "api-cache",
        lambda wish: wish.profile.kv_cache_dtype not in {*FLOATS, "fp8"},
        "the PyTorch backend has no {kv_cache_dtype} KV cache",
        "kv_cache_dtype {dtype} or fp8",
        MATRIX,
    ),
    Rule(
        "api-chunks",
        _long_prompts,
        "{model_family}: prompts of max_input_len {max_input_len} would be read in parts of"
        " max_num_tokens, which not every release and GPU can",
        "max_num_tokens at least {max_input_len}",
        MODELS,
    ),
    Rule(
        "api-context-parallel",
        lambda wish: wish.profile.context_parallel_size > 1,
        "context_parallel_size {context_parallel_size}: the PyTorch backend wants a cp_config with"
        " it, which a profile can't say",
        "context_parallel_size 1",
        "tensorrt_llm/commands/serve.py: cp_config and its cp_type",
    ),
)
