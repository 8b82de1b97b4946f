"""What a deployment profile may say. Pure; no files, no environment.

The flat keys are those of the harness that the deployment guide comes from, so that its profiles
are read unchanged; ours stand beside them. Words that mean one thing are kept as one: `fp16` is
`float16`, `awq` is `int4_awq`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.config import JsonDict

from runbook_lib.artifacts import Limits, Track
from runbook_lib.profile_kserve import KServeSettings
from runbook_lib.profile_section import FieldProblems, Section
from runbook_lib.profile_words import (
    FLOATS,
    GPU_WORDS,
    GUIDE_VARIABLES,
    QUANTIZATION,
    QUANTIZED,
    SHORT,
    WORDS,
    canonical,
    pages_context,
    runtime_conflicts,
)

__all__ = [
    "Approval",
    "Count",
    "DeploymentProfile",
    "FieldProblems",
    "Line",
    "Section",
    "Text",
    "Tokens",
    "TradeOffCell",
    "nearest",
]

Approval = Literal["ask", "auto"]

_DEFAULT_VERSION = "1.2.1"
_DEFAULT_SEQUENCE_BUDGET = 8192  # trtllm-build's own default of max_num_tokens since 0.11

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=128)]
Line = Annotated[str, Field(max_length=1024)]
Text = Annotated[str, Field(max_length=20_000)]
Count = Annotated[int, Field(gt=0, le=65_536)]
Tokens = Annotated[int, Field(gt=0, le=16_777_216)]
_SECRET = re.compile(
    r"(?i)(?:^|_)(?:TOKEN|PASSWORD|PASSWD|SECRET|(?:API|ACCESS|SECRET)_?KEY(?:_ID)?|CREDENTIALS?)$"
)
_STORE = re.compile(r"^(?:s3|gs|as|azure|file|https|pvc)://\S+$|^/\S*$")
_FIXED_IN_CELLS = {
    *("profile", "extends", "track", "tradeoffs", "approve", "load", "kserve", "notes"),
}


def nearest(word: str, known: Iterable[str], count: int = 1) -> list[str]:
    """The known names closest to a word, best first; empty when none is close."""
    return difflib.get_close_matches(word, list(known), n=count, cutoff=0.55)


def _one_of(*words: str) -> JsonDict:
    return {"enum": [*sorted(set(words) - {""})]}


class TradeOffCell(Section):
    """One more engine to build and weigh: a label, and the profile fields it changes."""

    model_config = ConfigDict(extra="allow")

    label: Name
    """Name of the row in the trade-off table."""

    def changes(self) -> dict[str, Any]:
        """The profile fields that this cell changes, with their values."""
        return dict(self.model_extra or {})


class DeploymentProfile(Section):
    """Which model is built how, for what, and where it is served."""

    profile: Line = ""
    """Name of the profile in tables and records; by default its place among the profiles."""
    extends: Line | None = None
    """Another profile whose values hold where this one says nothing."""
    track: Track = "engine"
    """engine (trtllm-build), llmapi (PyTorch), or lab (compiled for this CPU)."""
    trtllm_version: Annotated[str, Field(pattern=r"^\d+\.\d+(\.\d+)?(rc\d+)?$")] | None = None
    """TensorRT-LLM release that builds and serves; none in the lab."""
    model_family: Name = "llama"
    """Architecture family, the `model_type` of config.json: llama, mixtral, qwen3_moe, …; or codellama."""
    model_name: Name
    """Name of the model: a folder and a part of the repository's URI."""
    weights: Line = ""
    """Checkpoint folder or URI; `lab:model` is the model that comes with the lab."""
    weights_format: Literal["huggingface"] = "huggingface"
    """Format of the checkpoint."""
    dtype: str = Field(default="float16", json_schema_extra=_one_of(*FLOATS, *SHORT))
    """Type of the weights and activations."""
    quantization: str = Field(
        default="none",
        json_schema_extra=_one_of(*QUANTIZED, *WORDS["lab"]["quantization"], *QUANTIZATION),
    )
    """Quantisation of the weights."""
    kv_cache_dtype: str = Field(
        default="",
        json_schema_extra=_one_of(
            *GPU_WORDS["kv_cache_dtype"], *WORDS["lab"]["kv_cache_dtype"], *SHORT
        ),
    )
    """Type of the keys and values in the cache; by default that of the activations."""
    tensor_parallel_size: Count = 1
    """GPUs that share each layer."""
    pipeline_parallel_size: Count = 1
    """GPUs that take layers in turn."""
    context_parallel_size: Count = 1
    """GPUs that share each sequence."""
    moe_tensor_parallel_size: Count | None = None
    """GPUs that share each expert of a mixture; with the next it makes tensor_parallel_size."""
    moe_expert_parallel_size: Count | None = None
    """Groups of GPUs that hold different experts; by default 1."""
    max_batch_size: Count = 64
    """Most sequences in flight (the guide's MAX_BATCH_SIZE)."""
    max_input_len: Tokens = 2048
    """Most tokens of a prompt."""
    max_output_len: Tokens = 512
    """Most tokens of an answer."""
    max_beam_width: Count = 1
    """Beams; 1 unless beam search is wanted."""
    max_seq_len: Tokens | None = None
    """Most tokens of prompt and answer together; by default the sum of the two."""
    max_num_tokens: Tokens | None = None
    """Most tokens in one step; by default 8192, or what the batch can hold if that is less."""
    optimization_level: Annotated[int, Field(ge=0, le=5)] | None = None
    """Builder level: 0 to 5 in releases before 0.14; in the lab 0 keeps activations in floats, and 1 does not."""
    builder_flags: dict[str, bool | int | str] = Field(default_factory=dict)
    """Switches of the builder."""
    builder_cmd: Text | None = None
    """Template of a build command of your own, with the profile's values as {placeholders}."""
    runtime_env: dict[str, str] = Field(default_factory=dict)
    """Further environment variables of the server."""
    gpu: Line | None = None
    """GPU (or MIG slice, `A100-SXM-40GB:1g.5gb`) that the engine is for."""
    model_repository: Line = ""
    """Where the model repository is stored; by default s3://models/triton/<model_name>."""
    entry_model: Name = "ensemble"
    """Model of the repository that clients ask."""
    streaming: bool = True
    """Whether answers are streamed token by token."""
    kserve: KServeSettings = Field(default_factory=KServeSettings)
    """Where and how it runs on a cluster with KServe."""
    load: Line | None = None
    """Load profile of the benchmark."""
    tradeoffs: tuple[TradeOffCell, ...] = Field(default=(), strict=False, max_length=64)
    """Further engines that page 05 builds and weighs against this one."""
    approve: Approval = "ask"
    """ask: each change needs an approval; auto: `--approve auto` is allowed."""
    notes: Text = ""
    """For the reader."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        values = dict(given)
        if conflicts := runtime_conflicts(values):
            raise FieldProblems(
                (f"runtime_env.{name}", f"differs from {field}") for name, field in conflicts
            )
        if isinstance(env := values.get("runtime_env"), Mapping):
            values["runtime_env"] = {
                name: text for name, text in env.items() if name not in GUIDE_VARIABLES
            }
        track = values.get("track", "engine")
        for field in ("dtype", "quantization", "kv_cache_dtype"):
            if field in values:
                values[field] = canonical(field, values[field], track)
        return values | _derived(values, track)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*_word_problems(self), *_limit_problems(self), *_place_problems(self)]
        problems += _expert_problems(self)
        problems += _lab_problems(self) if self.track == "lab" else _gpu_problems(self)
        if not problems:
            problems = list(_cell_problems(self))
        if problems:
            raise FieldProblems(problems)
        return self

    @property
    def effective_max_seq_len(self) -> int:
        """Tokens of prompt and answer together."""
        return self.max_seq_len or self.max_input_len + self.max_output_len

    @property
    def effective_max_num_tokens(self) -> int:
        """Tokens in one step: as set, else 8192 or the whole batch if that is less, never below one prompt."""
        whole_batch = self.max_batch_size * self.effective_max_seq_len
        return self.max_num_tokens or max(
            self.max_input_len, min(_DEFAULT_SEQUENCE_BUDGET, whole_batch)
        )

    @property
    def effective_moe_tensor_parallel_size(self) -> int:
        """GPUs that share each expert: as set, else what the groups of experts leave."""
        groups = self.moe_expert_parallel_size or 1
        return self.moe_tensor_parallel_size or max(1, self.tensor_parallel_size // groups)

    @property
    def effective_moe_expert_parallel_size(self) -> int:
        """Groups of GPUs with different experts: as set, else what sharing an expert leaves."""
        shared = self.moe_tensor_parallel_size or self.tensor_parallel_size
        return self.moe_expert_parallel_size or max(1, self.tensor_parallel_size // shared)

    @property
    def paged_context(self) -> bool:
        """Whether the engine is built with paged context attention."""
        fused = bool(self.builder_flags.get("use_context_fmha", True))
        return fused and pages_context(self.quantization, self.kv_cache_dtype)

    @property
    def limits(self) -> Limits:
        """The shapes that the engine is built for, every one of them set."""
        return Limits(
            max_batch_size=self.max_batch_size,
            max_input_len=self.max_input_len,
            max_seq_len=self.effective_max_seq_len,
            max_num_tokens=self.effective_max_num_tokens,
            max_beam_width=self.max_beam_width,
        )

    @property
    def world_size(self) -> int:
        """Ranks that serve one copy of the model; experts are split over the same ones."""
        layers = self.tensor_parallel_size * self.pipeline_parallel_size
        return layers * self.context_parallel_size

    def serving_env(self) -> dict[str, str]:
        """The server's environment: the guide's variables as the fields set them, and `runtime_env`."""
        return {
            name: str(getattr(self, field)) for name, field in GUIDE_VARIABLES.items()
        } | self.runtime_env


def _derived(values: Mapping[str, Any], track: object) -> dict[str, Any]:
    """What follows from other fields where nothing was said."""
    dtype, lab = values.get("dtype", "float16"), track == "lab"
    fallbacks = {
        "kv_cache_dtype": canonical("kv_cache_dtype", dtype, track),
        "weights": "lab:model" if lab else f"/weights/{values.get('model_name', '')}",
        "model_repository": f"s3://models/triton/{values.get('model_name', '')}",
    }
    if not lab:
        fallbacks["trtllm_version"] = _DEFAULT_VERSION
    return {name: value for name, value in fallbacks.items() if values.get(name) in (None, "")}


def _word_problems(profile: DeploymentProfile) -> Iterable[tuple[str, str]]:
    for field, words in WORDS[profile.track].items():
        if (given := getattr(profile, field)) not in words:
            yield (
                field,
                f"{given!r} is no word of the {profile.track} track; it knows {', '.join(words)}",
            )


def _limit_problems(profile: DeploymentProfile) -> Iterable[tuple[str, str]]:
    longest = profile.effective_max_seq_len
    if profile.max_input_len >= longest:
        yield (
            "max_seq_len",
            f"{longest} leaves no room to answer a prompt of max_input_len {profile.max_input_len}",
        )
    if profile.track == "engine" and profile.effective_max_num_tokens < profile.max_input_len:
        budget = profile.effective_max_num_tokens
        yield (
            "max_num_tokens",
            f"{budget} is below max_input_len {profile.max_input_len}: such a prompt is never run",
        )


def _place_problems(profile: DeploymentProfile) -> Iterable[tuple[str, str]]:
    where = profile.model_repository
    if not _STORE.match(where) or ".." in where.split("/") or "@" in where:
        yield (
            "model_repository",
            f"{where!r} is no store: an s3, gs, as, azure, https, pvc or file URI or an absolute path, no `..`, no `@`",
        )
    if profile.weights.startswith("-") or any(ord(sign) < ord(" ") for sign in profile.weights):
        yield "weights", f"{profile.weights!r} is no folder or URI"
    for name in profile.runtime_env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            yield f"runtime_env.{name}", "is no name of an environment variable"
        elif _SECRET.search(name):
            yield (
                f"runtime_env.{name}",
                "looks like a secret; a profile goes into records: reference a secret instead",
            )


def _expert_problems(profile: DeploymentProfile) -> Iterable[tuple[str, str]]:
    split = profile.effective_moe_tensor_parallel_size * profile.effective_moe_expert_parallel_size
    stated = [
        name
        for name in ("moe_tensor_parallel_size", "moe_expert_parallel_size")
        if getattr(profile, name) is not None
    ]
    if stated and split != (ranks := profile.tensor_parallel_size):
        yield (
            stated[-1],
            f"both moe sizes multiplied are {split}, and must be tensor_parallel_size {ranks}",
        )


def _lab_problems(profile: DeploymentProfile) -> Iterable[tuple[str, str]]:
    for field in (
        *("tensor_parallel_size", "pipeline_parallel_size", "context_parallel_size"),
        *("moe_tensor_parallel_size", "moe_expert_parallel_size"),
    ):
        if (size := getattr(profile, field)) not in {1, None}:
            yield (
                field,
                f"{size} in the lab: it runs one process per engine, so ranks can't cooperate; use 1",
            )
    if profile.max_beam_width != 1:
        yield (
            "max_beam_width",
            f"{profile.max_beam_width} in the lab: its server has no beam search; use 1",
        )
    if profile.optimization_level not in {None, 0, 1}:
        yield "optimization_level", f"{profile.optimization_level} in the lab: it is 0 or 1"
    if profile.optimization_level == 0 and profile.quantization == "none":
        yield (
            "optimization_level",
            "0 without quantization: it keeps activations unquantised, which they are then anyway",
        )
    for field in ("trtllm_version", "gpu"):
        if getattr(profile, field) is not None:
            yield field, "has no meaning in the lab; leave it out"
    if profile.builder_flags:
        yield (
            "builder_flags",
            "has no meaning in the lab: its builder has no such switches; leave it out",
        )


def _gpu_problems(profile: DeploymentProfile) -> Iterable[tuple[str, str]]:
    if profile.weights.startswith("lab:"):
        yield (
            "weights",
            f"{profile.weights} is the lab's model; the {profile.track} track needs a checkpoint",
        )
    kv = profile.kv_cache_dtype
    if kv in FLOATS and profile.dtype in FLOATS and kv != profile.dtype:
        yield "kv_cache_dtype", f"{kv} differs from dtype {profile.dtype}: it is dtype, int8 or fp8"


def _cell_problems(profile: DeploymentProfile) -> Iterable[tuple[str, str]]:
    base = profile.model_dump(exclude={"tradeoffs"})
    seen: set[str] = set()
    for number, cell in enumerate(profile.tradeoffs):
        here = f"tradeoffs.{number}"
        if cell.label in seen or cell.label == "profile":
            yield f"{here}.label", f"{cell.label!r} is taken; each row needs its own label"
        seen.add(cell.label)
        changes = cell.changes()
        known = set(DeploymentProfile.model_fields) - _FIXED_IN_CELLS
        for name in sorted(set(changes) - known):
            hint = "".join(f"; did you mean {near}?" for near in nearest(name, known))
            yield f"{here}.{name}", f"{name!r} is nothing that a trade-off can change{hint}"
        try:
            DeploymentProfile.model_validate(
                base | {name: changes[name] for name in changes if name in known}
            )
        except ValidationError as error:
            for one in error.errors(include_url=False):
                inner = one.get("ctx", {}).get("error")
                if isinstance(inner, FieldProblems):
                    yield from ((f"{here}.{path}", text) for path, text in inner.problems)
                else:
                    path = ".".join(str(part) for part in one["loc"])
                    yield f"{here}.{path}", f"{one['input']!r} given; {one['msg'].lower()}"
