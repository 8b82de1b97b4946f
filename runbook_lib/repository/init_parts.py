"""What each model of a GPU's repository is made of: configuration, code, engine, tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.artifacts import Limits
from runbook_lib.errors import RepositoryError
from runbook_lib.profile import DeploymentProfile
from runbook_lib.repository.layout_tree import CODE, TOKENIZER_FILES, ModelPart, files_of
from runbook_lib.repository.templates_text import MODELS, TemplateSettings, config_texts

__all__ = ["Sources", "engine_parts", "llmapi_parts", "missing"]

ENGINE = "tensorrt_llm"
TOKENIZED = ("preprocessing", "postprocessing")
CHECKPOINT = "checkpoint"
NOTE = "PUT_FILES_HERE.txt"
ENGINE_WANTED = "config.json and rank*.engine, as trtllm-build writes them"
TOKENIZER_WANTED = (
    "tokenizer.json and tokenizer_config.json of the model (a checkpoint with tokenizer.model only: "
    "transformers' AutoTokenizer.from_pretrained(CHECKPOINT).save_pretrained(FOLDER) makes them)"
)
CHECKPOINT_WANTED = "the Hugging Face checkpoint: config.json, *.safetensors and the tokenizer"


@dataclass(frozen=True)
class Sources:
    """What a repository is made of beside its profile; a folder that is None is not at hand.

    Attributes:
        engine: folder with `config.json` and `rank*.engine`, for track engine.
        tokenizer: folder with `tokenizer.json` and `tokenizer_config.json`, for the same.
        checkpoint: Hugging Face folder, for track llmapi.
        limits: the engine's own limits; by default the profile's.
    """

    engine: Path | None = None
    tokenizer: Path | None = None
    checkpoint: Path | None = None
    limits: Limits | None = None


def engine_parts(
    profile: DeploymentProfile, sources: Sources, version: str, mount: str
) -> list[ModelPart]:
    """The five models around an engine.

    Raises:
        RepositoryError: a folder lacks what it must hold, or the release has no such layout.
    """
    limits = sources.limits or profile.limits
    settings = TemplateSettings(
        version=version,
        max_batch_size=limits.max_batch_size,
        decoupled=profile.streaming,
        engine_dir=f"{mount.rstrip('/')}/{ENGINE}/1",
        max_beam_width=limits.max_beam_width,
        paged_context=profile.paged_context,
    )
    parts = []
    for model, config in config_texts("engine", settings).items():
        files = files_of(CODE / model) if (CODE / model).is_dir() else {}
        texts: dict[str, str] = {}
        if model == ENGINE:
            files |= _engine_files(sources.engine)
            texts |= {} if sources.engine else _note("", ENGINE_WANTED)
        if model in TOKENIZED:
            files |= _tokenizer_files(sources.tokenizer)
            texts |= {} if sources.tokenizer else _note("tokenizer/", TOKENIZER_WANTED)
        parts.append(ModelPart(model, config, files, texts))
    return parts


def llmapi_parts(profile: DeploymentProfile, sources: Sources, version: str) -> list[ModelPart]:
    """The model that runs a checkpoint itself, and the ensemble that gives it the common tensors.

    Raises:
        RepositoryError: the folder is no checkpoint, or the release has no such layout.
    """
    settings = TemplateSettings(
        version=version, max_batch_size=profile.max_batch_size, decoupled=profile.streaming
    )
    files = files_of(CODE / "llmapi") | _checkpoint_files(sources.checkpoint)
    texts = {"model.yaml": _model_yaml(profile, sources)}
    if _is_to_be_put(profile, sources):
        texts |= _note(f"{CHECKPOINT}/", CHECKPOINT_WANTED)
    held = {ENGINE: (files, texts)}
    configs = config_texts("llmapi", settings)
    return [ModelPart(one, configs[one], *held.get(one, ({}, {}))) for one in MODELS["llmapi"]]


def missing(profile: DeploymentProfile, sources: Sources) -> tuple[str, ...]:
    """What somebody must still put in, and where."""
    if profile.track == "llmapi":
        put = _is_to_be_put(profile, sources)
        return (f"{ENGINE}/1/{CHECKPOINT}: {CHECKPOINT_WANTED}",) if put else ()
    found = [] if sources.engine else [f"{ENGINE}/1: {ENGINE_WANTED}"]
    if sources.tokenizer is None:
        found += [f"{model}/1/tokenizer: {TOKENIZER_WANTED}" for model in TOKENIZED]
    return tuple(found)


def _note(below: str, wanted: str) -> dict[str, str]:
    return {f"{below}{NOTE}": f"Here belongs {wanted}.\n"}


def _engine_files(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    _need(folder, "config.json", "Give the folder that trtllm-build wrote.")
    if not any(folder.glob("rank*.engine")):
        _need(folder, "rank0.engine", "Build the engine first: page 01.")
    return files_of(folder)


def _tokenizer_files(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    for name in TOKENIZER_FILES[:2]:
        _need(folder, name, f"Give a folder with {TOKENIZER_WANTED}.")
    there = (name for name in TOKENIZER_FILES if (folder / name).is_file())
    return {f"tokenizer/{name}": folder / name for name in there}


def _checkpoint_files(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    _need(folder, "config.json", "Give the folder of a Hugging Face checkpoint.")
    return files_of(folder, f"{CHECKPOINT}/")


def _need(folder: Path, name: str, fix: str) -> None:
    if not (folder / name).is_file():
        what = f"{folder / name} does not exist."
        raise RepositoryError(what, why="The model repository needs it.", fix=fix)


def _is_to_be_put(profile: DeploymentProfile, sources: Sources) -> bool:
    """Whether the checkpoint is neither at hand nor one that the LLM API fetches itself."""
    return sources.checkpoint is None and not profile.weights.startswith("hf://")


def _model_yaml(profile: DeploymentProfile, sources: Sources) -> str:
    """The arguments of `tensorrt_llm.LLM`, every limit written out."""
    here = sources.checkpoint is not None or _is_to_be_put(profile, sources)
    model = CHECKPOINT if here else profile.weights.removeprefix("hf://")
    limits = sources.limits or profile.limits
    values: Mapping[str, object] = {
        "model": model,
        "backend": "pytorch",
        "dtype": profile.dtype,
        "tensor_parallel_size": profile.tensor_parallel_size,
        "pipeline_parallel_size": profile.pipeline_parallel_size,
        **_experts(profile),
        "max_batch_size": limits.max_batch_size,
        "max_input_len": limits.max_input_len,
        "max_num_tokens": limits.max_num_tokens,
        "max_seq_len": limits.max_seq_len,
        "max_beam_width": limits.max_beam_width,
        # A prompt longer than one step is read in parts.
        "enable_chunked_prefill": str(limits.max_num_tokens < limits.max_input_len).lower(),
    }
    lines = ["# Arguments of tensorrt_llm.LLM; a model that is a folder here is taken from here."]
    lines += [f"{name}: {value}" for name, value in values.items()]
    lines += ["kv_cache_config:", "  free_gpu_memory_fraction: 0.9"]
    lines += ["  dtype: fp8"] * (profile.kv_cache_dtype == "fp8")
    return "\n".join([*lines, ""])


def _experts(profile: DeploymentProfile) -> dict[str, int]:
    """How experts are split, where the profile says so."""
    if (profile.moe_tensor_parallel_size, profile.moe_expert_parallel_size) == (None, None):
        return {}
    return {
        "moe_tensor_parallel_size": profile.effective_moe_tensor_parallel_size,
        "moe_expert_parallel_size": profile.effective_moe_expert_parallel_size,
    }
