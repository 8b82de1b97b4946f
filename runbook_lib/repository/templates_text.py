"""The `config.pbtxt` of each model of the TensorRT-LLM layout, written out with nothing left to fill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from runbook_lib.errors import RepositoryError
from runbook_lib.repository.config import parse_config, quoted
from runbook_lib.repository.templates import (
    Built,
    Contract,
    contract,
    known_parameters,
    parameters_of,
    wiring,
)

__all__ = ["MODELS", "TemplateSettings", "config_texts"]

# In the order in which a request meets them.
MODELS: Mapping[Built, tuple[str, ...]] = {
    "engine": ("ensemble", "preprocessing", "tensorrt_llm", "postprocessing", "tensorrt_llm_bls"),
    "llmapi": ("ensemble", "tensorrt_llm"),
}
WORKER = "/opt/tritonserver/backends/tensorrtllm/trtllmExecutorWorker"


@dataclass(frozen=True)
class TemplateSettings:
    """What the configurations of one repository say.

    Attributes:
        version: TensorRT-LLM release whose tensors and parameters are written.
        max_batch_size: largest batch of one request; the engine's own limit.
        decoupled: whether answers may be streamed.
        engine_dir: the engine's folder as the server sees it, an absolute path.
        max_beam_width: beams that a request may ask for.
        paged_context: whether the engine has paged context attention, which KV reuse needs.
        kv_fraction: share of the memory left after the weights that the KV cache takes.
        parameters: further parameters of `tensorrt_llm`, or other values for those above.
    """

    version: str
    max_batch_size: int
    decoupled: bool
    engine_dir: str = ""
    max_beam_width: int = 1
    paged_context: bool = True
    kv_fraction: float = 0.9
    parameters: Mapping[str, str] = field(default_factory=dict)


def config_texts(track: Built, settings: TemplateSettings) -> dict[str, str]:
    """The configuration of each model, by its name; Triton's own parser has read every one.

    Raises:
        RepositoryError: the release is not known, or has no such parameter or takes no such value.
    """
    texts = {model: "\n".join([*_lines(track, model, settings), ""]) for model in MODELS[track]}
    for model, text in texts.items():
        parse_config(text, where=f"{model}/config.pbtxt")
    return texts


def _lines(track: Built, model: str, settings: TemplateSettings) -> Iterable[str]:
    yield f"# TensorRT-LLM {settings.version}, track {track}"
    yield f'name: "{model}"'
    batch = settings.max_batch_size if track == "engine" else 0
    if model == "ensemble":
        yield 'platform: "ensemble"'
    else:
        yield f'backend: "{_backend(track, model)}"'
    yield f"max_batch_size: {batch}"
    if model in {"tensorrt_llm", "tensorrt_llm_bls"}:
        decoupled = str(settings.decoupled).lower()
        yield f"model_transaction_policy {{ decoupled: {decoupled} }}"
    if track == "engine":
        yield from _batching(model, batch)
    yield from _tensors(contract(track, settings.version, model))
    if model == "ensemble":
        yield from _steps(track, settings.version)
    else:
        yield "instance_group [ { count: 1 kind: KIND_CPU } ]"
    if track == "engine":
        yield from _parameters(model, settings)


def _backend(track: Built, model: str) -> str:
    return "tensorrtllm" if track == "engine" and model == "tensorrt_llm" else "python"


def _batching(model: str, batch: int) -> Iterable[str]:
    if model == "tensorrt_llm":
        yield "dynamic_batching {"
        yield f"  preferred_batch_size: [ {batch} ]"
        yield "  max_queue_delay_microseconds: 0"
        yield "  default_queue_policy: { max_queue_size: 0 }"
        yield "}"
    elif model in {"preprocessing", "postprocessing"}:
        yield "dynamic_batching { }"


def _tensors(its: Contract) -> Iterable[str]:
    for side, tensors in (("input", its.inputs), ("output", its.outputs)):
        yield f"{side} ["
        yield ",\n".join(f"  {one}" for one in tensors)
        yield "]"


def _steps(track: Built, version: str) -> Iterable[str]:
    yield "ensemble_scheduling {"
    yield "  step ["
    steps = [_step(model, sides) for model, sides in wiring(track, version).items()]
    yield ",\n".join(steps)
    yield "  ]"
    yield "}"


def _step(model: str, sides: Mapping[str, Mapping[str, str]]) -> str:
    lines = [f'      model_name: "{model}"', "      model_version: -1"]
    for side, word in (("inputs", "input_map"), ("outputs", "output_map")):
        lines += [f'      {word} {{ key: "{k}" value: "{v}" }}' for k, v in sides[side].items()]
    return "\n".join(["    {", *lines, "    }"])


def _parameters(model: str, settings: TemplateSettings) -> Iterable[str]:
    """Each parameter that has a value, what it means above it; one without is the backend's default."""
    for name, value in _values(model, settings).items():
        yield f"# {name}: {known_parameters(model)[name].means}"
        told = f"value: {{ string_value: {quoted(value)} }}"
        yield f'parameters {{ key: "{name}" {told} }}'


def _values(model: str, settings: TemplateSettings) -> dict[str, str]:
    if model == "preprocessing":
        return {"tokenizer_dir": "tokenizer", "add_special_tokens": "true"}
    if model == "postprocessing":
        return {"tokenizer_dir": "tokenizer", "skip_special_tokens": "true"}
    if model == "tensorrt_llm_bls":
        return {"tensorrt_llm_model_name": "tensorrt_llm"}
    return _engine_values(settings) if model == "tensorrt_llm" else {}


def _engine_values(settings: TemplateSettings) -> dict[str, str]:
    known = parameters_of("tensorrt_llm", settings.version)
    values = {
        "gpt_model_path": settings.engine_dir,
        "gpt_model_type": "inflight_fused_batching",
        "batch_scheduler_policy": "guaranteed_no_evict",
        "max_beam_width": str(settings.max_beam_width),
        "kv_cache_free_gpu_mem_fraction": f"{settings.kv_fraction:g}",
        "enable_kv_cache_reuse": str(settings.paged_context).lower(),
        "enable_chunked_context": "false",
        "exclude_input_in_output": "true",
        "cancellation_check_period_ms": "100",
        "stats_check_period_ms": "100",
        "FORCE_CPU_ONLY_INPUT_TENSORS": "no",
        "executor_worker_path": WORKER,
        **settings.parameters,
    }
    problems = [
        f"{name} {known[name].problem(value) if name in known else 'is no parameter of it'}"
        for name, value in values.items()
        if name not in known or known[name].problem(value)
    ]
    if problems:
        raise RepositoryError(
            f"TensorRT-LLM {settings.version} does not take these parameters of tensorrt_llm.",
            why="; ".join(problems),
            fix="Correct or leave out the ones named.",
        )
    return values
