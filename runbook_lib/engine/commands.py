"""The commands that take a checkpoint to a served engine with TensorRT-LLM, as argv.

Paths, flags and template keys are those of the release's own container and were read from its
sources: `examples/models/core/*/convert_checkpoint.py`, `examples/quantization/quantize.py` (with
`tensorrt_llm/quantization/quantize_by_modelopt.py`),
`tensorrt_llm/commands/build.py`, `triton_backend/tools/fill_template.py` (each at 1.2) and the
templates below `triton_backend/all_models/inflight_batcher_llm`. Every limit is written out,
because the defaults moved between releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runbook_lib.errors import PlanError
from runbook_lib.profile import DeploymentProfile

__all__ = ["VERSIONS", "Command", "commands", "notes"]

VERSIONS = ("1.2.1",)
EXAMPLES = "/app/tensorrt_llm/examples"
TEMPLATES = "/app/all_models/inflight_batcher_llm"
FILL = "/app/tools/fill_template.py"
LAUNCH = "/app/scripts/launch_triton_server.py"
MODELS = ("ensemble", "preprocessing", "postprocessing", "tensorrt_llm")
CONVERTERS = {"llama": "llama", "codellama": "llama", "mistral": "llama", "phi": "phi"}
WEIGHT_ONLY = {"int8_wo": "int8", "int4_wo": "int4"}
FLOATS = ("float16", "bfloat16", "float32")
NEEDED = ("use_gpt_attention_plugin", "remove_input_padding", "enable_ragged_kv_cache")
SWITCHES = (*NEEDED, "use_context_fmha", "use_gemm_plugin")
WITHOUT_FLAG = ("workspace_size_mb",)
CALIBRATION_TEXTS = 512
AWQ_TEXTS = 32  # quantize.py lowers a larger number to this
AWQ_BLOCK = 128


@dataclass(frozen=True)
class Command:
    """One command: the step it belongs to, and its words; no shell takes part."""

    step: str
    argv: tuple[str, ...]


def commands(profile: DeploymentProfile, *, weights: str, work: str) -> list[Command]:
    """The commands from a Hugging Face checkpoint to a running Triton, in order.

    Args:
        profile: an engine profile.
        weights: the checkpoint's folder, which holds the tokenizer too.
        work: folder that gets `checkpoint`, `engine` and `repository`.

    Raises:
        PlanError: the release, the model or a wish of the profile is not known here, or the
            release can't do it; every reason at once.
    """
    if reasons := _refusals(profile):
        raise PlanError(
            f"There are no commands for {profile.profile or profile.model_name}.",
            why="; ".join(reasons),
            fix="Change the profile as the reasons say.",
            page="00_plan",
        )
    repository = f"{work}/repository"
    copied = [f"{TEMPLATES}/{name}" for name in MODELS]
    return [
        _checkpoint(profile, weights, f"{work}/checkpoint"),
        _build(profile, f"{work}/checkpoint", f"{work}/engine"),
        Command("copy_templates", ("mkdir", "-p", repository)),
        Command("copy_templates", ("cp", "-r", *copied, repository)),
        *_fill(profile, weights, f"{work}/engine", repository),
        Command(
            "launch",
            (
                "python3",
                LAUNCH,
                "--world_size",
                str(profile.world_size),
                "--model_repo",
                repository,
            ),
        ),
    ]


def notes(profile: DeploymentProfile) -> list[str]:
    """What the commands can't express, or take for granted, in sentences for the plan."""
    flags = profile.builder_flags
    told = [
        f"builder_flags.{name}: {flags[name]!r} has no flag in trtllm-build since 0.8; it has no effect."
        for name in WITHOUT_FLAG
        if name in flags
    ]
    if flags.get("remove_input_padding", True) and flags.get("use_context_fmha", True):
        told.append(
            "With padding removal and context FMHA a prompt is limited by "
            "min(max_seq_len - 1, max_num_tokens); max_input_len alone does not cut it."
        )
    if profile.quantization == "int4_gptq":
        told.append("The checkpoint must be quantised by GPTQ already, with desc_act off.")
    if profile.kv_cache_dtype not in FLOATS:
        told.append(
            f"A {profile.kv_cache_dtype} KV cache changes answers: check the accuracy on your traffic."
        )
    return told


def _refusals(profile: DeploymentProfile) -> list[str]:
    if profile.track != "engine":
        return [f"its track is {profile.track}; these commands are those of the engine track"]
    known = ", ".join(VERSIONS)
    if profile.trtllm_version not in VERSIONS:
        return [f"trtllm_version {profile.trtllm_version} is not known here; known: {known}"]
    reasons = [*_flag_refusals(profile.builder_flags), *_model_refusals(profile)]
    if profile.optimization_level is not None:
        reasons.append("optimization_level: trtllm-build lost --builder_opt in 0.14; leave it out")
    if profile.entry_model != "ensemble":
        reasons.append(
            f"entry_model {profile.entry_model!r}: the repository filled here is entered by `ensemble`"
        )
    if profile.builder_cmd is not None:
        reasons.append("builder_cmd replaces these commands; leave it out to have them")
    return reasons


def _flag_refusals(flags: Mapping[str, bool | int | str]) -> list[str]:
    known = {*SWITCHES, *WITHOUT_FLAG}
    reasons = [
        f"builder_flags.{name} is not known here; known: {', '.join(sorted(known))}"
        for name in flags
        if name not in known
    ]
    reasons += [
        f"builder_flags.{name} must be true or false, not {flags[name]!r}"
        for name in SWITCHES
        if not isinstance(flags.get(name, True), bool)
    ]
    reasons += [
        f"builder_flags.{name} is off, and Triton's in-flight batching needs it"
        for name in NEEDED
        if flags.get(name) is False
    ]
    return reasons


def _model_refusals(profile: DeploymentProfile) -> list[str]:
    family = profile.model_family
    if family not in CONVERTERS:
        return [
            f"model_family {family!r} has no converter known here; known: {', '.join(CONVERTERS)}"
        ]
    reasons = []
    if CONVERTERS[family] == "phi":
        if profile.pipeline_parallel_size > 1:
            reasons.append(
                "the phi converter can't split a model into pipeline stages; use tensor parallelism"
            )
        if profile.quantization == "int4_gptq":
            reasons.append("the phi converter reads no GPTQ checkpoints; use int4_wo")
        elif not _is_converted(profile):
            reasons.append(
                "quantize.py knows no PhiForCausalLM; use none, int8_wo or int4_wo, and a KV cache in dtype"
            )
    if profile.quantization == "int4_gptq" and profile.kv_cache_dtype not in FLOATS:
        reasons.append(
            "a GPTQ checkpoint is converted, not calibrated; its KV cache stays in dtype"
        )
    return reasons


def _is_converted(profile: DeploymentProfile) -> bool:
    """Whether conversion is enough: full precision, weight-only, GPTQ. All else is calibrated."""
    plain = profile.quantization in {"none", "int4_gptq", *WEIGHT_ONLY}
    return plain and profile.kv_cache_dtype in FLOATS


def _checkpoint(profile: DeploymentProfile, weights: str, output: str) -> Command:
    split = _options(tp_size=profile.tensor_parallel_size, pp_size=profile.pipeline_parallel_size)
    files = _options(model_dir=weights, output_dir=output, dtype=profile.dtype)
    if _is_converted(profile):
        script = f"{EXAMPLES}/models/core/{CONVERTERS[profile.model_family]}/convert_checkpoint.py"
        precision = WEIGHT_ONLY.get(profile.quantization)
        packed = ("--use_weight_only", "--weight_only_precision", precision) if precision else ()
        return Command("convert_checkpoint", ("python3", script, *files, *split, *packed))
    qformat = "full_prec" if profile.quantization == "none" else profile.quantization
    cache = () if profile.kv_cache_dtype in FLOATS else ("--kv_cache_dtype", profile.kv_cache_dtype)
    block = ("--awq_block_size", str(AWQ_BLOCK)) if "awq" in qformat else ()
    texts = AWQ_TEXTS if "awq" in qformat else CALIBRATION_TEXTS
    script = f"{EXAMPLES}/quantization/quantize.py"
    calibration = _options(qformat=qformat, calib_size=texts)
    return Command("quantize", ("python3", script, *files, *calibration, *cache, *block, *split))


def _build(profile: DeploymentProfile, checkpoint: str, output: str) -> Command:
    flags, limits = profile.builder_flags, profile.limits
    fmha = _word(flags.get("use_context_fmha", True))
    # FP8 matrices are fastest in TensorRT itself; the plugin is for float16 and bfloat16.
    plugin = flags.get("use_gemm_plugin", True) and profile.quantization not in {"fp8", "nvfp4"}
    return Command(
        "trtllm-build",
        (
            "trtllm-build",
            *_options(checkpoint_dir=checkpoint, output_dir=output),
            *_options(**limits.model_dump()),
            *_options(
                gpt_attention_plugin="auto",
                gemm_plugin="auto" if plugin else "disable",
                context_fmha=fmha,
                use_paged_context_fmha=fmha,
                remove_input_padding="enable",
                kv_cache_type="paged",
                workers=profile.world_size,
            ),
        ),
    )


def _fill(
    profile: DeploymentProfile, tokenizer: str, engine: str, repository: str
) -> list[Command]:
    batch, paged = (
        str(profile.max_batch_size),
        _flag(profile.builder_flags.get("use_context_fmha", True)),
    )
    queue = {"max_queue_delay_microseconds": "0", "max_queue_size": "0"}
    values = {
        "ensemble": {"triton_max_batch_size": batch, "logits_datatype": "TYPE_FP32"},
        "preprocessing": {
            "tokenizer_dir": tokenizer,
            "triton_max_batch_size": batch,
            "preprocessing_instance_count": "1",
            "add_special_tokens": "true",
            **queue,
        },
        "postprocessing": {
            "tokenizer_dir": tokenizer,
            "triton_max_batch_size": batch,
            "postprocessing_instance_count": "1",
            "skip_special_tokens": "true",
        },
        "tensorrt_llm": {
            "triton_backend": "tensorrtllm",
            "triton_max_batch_size": batch,
            "decoupled_mode": _flag(profile.streaming),
            "engine_dir": engine,
            "batching_strategy": "inflight_fused_batching",
            "max_beam_width": str(profile.max_beam_width),
            "kv_cache_free_gpu_mem_fraction": "0.9",
            "enable_kv_cache_reuse": paged,
            "enable_chunked_context": "false",
            "exclude_input_in_output": "true",
            "encoder_input_features_data_type": "TYPE_FP16",
            "prompt_embedding_table_data_type": "TYPE_FP16",
            "logits_datatype": "TYPE_FP32",
            **queue,
        },
    }
    return [
        Command(
            "fill_templates",
            ("python3", FILL, "-i", f"{repository}/{model}/config.pbtxt", _substitutions(pairs)),
        )
        for model, pairs in values.items()
    ]


def _substitutions(pairs: Mapping[str, str]) -> str:
    """`key:value,…` as fill_template.py reads it: it splits at `,`, then at `:`, and unescapes twice."""
    return ",".join(_escaped(f"{key}:{_escaped(value, ':')}", ",") for key, value in pairs.items())


def _escaped(value: str, separator: str) -> str:
    return value.replace("\\", "\\\\").replace(separator, f"\\{separator}")


def _options(**values: str | int) -> tuple[str, ...]:
    return tuple(word for name, value in values.items() for word in (f"--{name}", str(value)))


def _word(switch: object) -> str:
    return "enable" if switch else "disable"


def _flag(switch: object) -> str:
    return "true" if switch else "false"
