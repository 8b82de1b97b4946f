"""Whether an engine belongs where it is to run, and what the server would have said if not. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from runbook_lib.engine.identity import EngineFacts
from runbook_lib.engine.identity_place import Image, Node, tensorrt_of
from runbook_lib.hardware import gpu
from runbook_lib.profile import DeploymentProfile

__all__ = ["Mismatch", "against_image", "against_node", "against_profile", "of_itself"]

DATA = Path(__file__).resolve().parent / "data" / "load_errors.json"
FP = {"FP8": "fp8", "INT8": "int8"}
TAGS = {"10.0": 237, "10.10": 239, "10.11": 240}  # TensorRT's serialisation versions that are known
REBUILD = "Build the engine again, on the GPU and in the image that will serve it (page 01)."
SILENT = f"The server says nothing and serves what was built. {REBUILD}"
MIB = 2**20
NEEDED = {"gpt_attention_plugin": "the attention plugin", "remove_input_padding": "packed input"}
# How a model's architecture and family begin, and whose kin it is.
KIN = {
    **dict.fromkeys(("llama", "codellama", "mistral", "mixtral"), "llama"),
    **{word: word for word in ("qwen", "gemma", "phi", "falcon", "deepseek", "gpt")},
    "rw": "falcon",
}
RECURRENT = ("Mamba", "RecurrentGemma")  # these need other plugins


@dataclass(frozen=True)
class Mismatch:
    """One thing that does not fit.

    `severity` is error (it does not load, or not as asked), warning (it loads), or unknown (nobody
    can say before it loads). `load_error` is what the server would say; empty where it says nothing.
    """

    what: str
    severity: Literal["error", "warning", "unknown"] = "error"
    load_error: str = ""
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """As plain data."""
        return asdict(self)

    def __str__(self) -> str:
        rows = (("would say", self.load_error), ("fix", self.fix))
        told = [f"  {label}: {text}" for label, text in rows if text]
        return "\n".join([f"{self.severity.upper()} {self.what}", *told])


@cache
def _errors() -> dict[str, dict[str, str]]:
    return dict(json.loads(DATA.read_bytes())["errors"])


def said(name: str, **values: object) -> str:
    """What a server says of one kind of mismatch."""
    return _errors()[name]["text"].format(**values)


def of_itself(facts: EngineFacts, folder: Path) -> Iterator[Mismatch]:
    """What stops an engine anywhere: a rank that is missing, cut off, or of another build."""
    for one in facts.ranks:
        if not one.fault:
            continue
        missing = one.fault == "missing"
        text = said("missing_rank", path=folder / one.name) if missing else said("deserialize")
        yield Mismatch(f"{one.name}: {one.fault}", load_error=text, fix=REBUILD)
    ranks = {f"{one.name}: {one.fault}" for one in facts.ranks}
    for fault in facts.faults:
        if fault not in ranks:
            text = "" if "changed" in fault else said("deserialize")
            yield Mismatch(fault, load_error=text, fix=REBUILD)
    padded = facts.plugins.get("remove_input_padding") not in {None, "disable", False}
    if padded and "max_num_tokens" not in facts.limits and facts.version:
        yield Mismatch(
            "remove_input_padding without max_num_tokens", load_error=said("padding"), fix=REBUILD
        )
    if lacking := _not_in_flight(facts):
        yield Mismatch(
            f"in-flight batching needs {lacking}", load_error=said("in_flight"), fix=REBUILD
        )
    for note in facts.notes:
        yield Mismatch(note, "warning")


def _not_in_flight(facts: EngineFacts) -> str:
    """What an engine lacks of modelConfig.h's supportsInflightBatching(), which the backend asks for."""
    if facts.lab or any(word in facts.architecture for word in RECURRENT):
        return ""
    lacking = [
        told for name, told in NEEDED.items() if facts.plugins.get(name) in {None, "disable", False}
    ]
    paged = facts.kv_cache_type in {"paged", "disabled", ""}  # what is not told is the image's
    return ", ".join(
        [*lacking, *([] if paged else [f"a paged KV cache, not {facts.kv_cache_type}"])]
    )


def against_image(facts: EngineFacts, image: Image) -> Iterator[Mismatch]:
    """An engine runs in the TensorRT that compiled it."""
    if not image.trtllm:
        yield Mismatch(
            f"what {image.name} holds is not known here",
            "unknown",
            fix="Ask it: python3 -c 'import tensorrt, tensorrt_llm; "
            "print(tensorrt.__version__, tensorrt_llm.__version__)'",
        )
        return
    built = facts.tensorrt or tensorrt_of(facts.version)
    if not built or not image.tensorrt:
        asked = "the engine" if not built else image.name
        yield Mismatch(f"the TensorRT of {asked} is not known", "unknown", fix=REBUILD)
    elif not _same(built, image.tensorrt):
        yield Mismatch(
            f"built by TensorRT {built}; {image.name} has {image.tensorrt}",
            load_error=_tensorrt_error(built, image.tensorrt),
            fix=f"Serve it in the image that built it, or build it in {image.name}.",
        )
    if facts.version and facts.version != image.trtllm:
        yield Mismatch(
            f"built by TensorRT-LLM {facts.version}; {image.name} has {image.trtllm}",
            "warning",
            fix="TensorRT-LLM compares nothing itself: build and serve in one image.",
        )
    if not facts.kv_cache_type and _numbers(image.trtllm) >= [0, 13]:
        yield Mismatch(
            "its config.json has no kv_cache_type: in-flight batching needs a paged cache",
            load_error=said("kv_type"),
            fix=REBUILD,
        )


def _same(one: str, other: str) -> bool:
    """Whether two versions agree as far as both are told."""
    return all(a == b for a, b in zip(one.split("."), other.split("."), strict=False))


def _tensorrt_error(built: str, here: str) -> str:
    text = said("tensorrt", here=here, built=built)
    tags = [TAGS.get(".".join(version.split(".")[:2])) for version in (here, built)]
    if None not in tags and tags[0] != tags[1]:
        text = f"{said('serialization', here=tags[0], built=tags[1])} or: {text}"
    return text


def against_profile(facts: EngineFacts, profile: DeploymentProfile) -> Iterator[Mismatch]:
    """Whether it is the engine that a profile asks for."""
    if facts.lab != (profile.track == "lab"):
        yield Mismatch(
            f"the profile's track is {profile.track}; this is an engine of "
            f"{'the lab' if facts.lab else 'TensorRT-LLM'}",
            fix="Name the profile that it was built from.",
        )
        return
    yield from _model(facts, profile)
    yield from _parallelism(facts, profile)
    yield from _precision(facts, profile)
    yield from _limits(facts, profile)
    if profile.gpu and not facts.lab:
        yield from _target(facts, gpu(profile.gpu.partition(":")[0]).sm, f"GPU {profile.gpu}")


def _model(facts: EngineFacts, profile: DeploymentProfile) -> Iterator[Mismatch]:
    """Converters name the architectures of one kin variously; those of another are never meant."""
    built, asked = _kin(facts.architecture), _kin(profile.model_family)
    if not facts.lab and built and asked and built != asked:
        yield Mismatch(
            f"its model is {facts.architecture}; the profile asks for {profile.model_family}",
            fix=SILENT,
        )


def _kin(name: str) -> str:
    plain = name.lower()
    return next((kin for word, kin in KIN.items() if plain.startswith(word)), "")


def _parallelism(facts: EngineFacts, profile: DeploymentProfile) -> Iterator[Mismatch]:
    asked = (
        profile.tensor_parallel_size,
        profile.pipeline_parallel_size,
        profile.context_parallel_size,
    )
    built = (facts.tp_size, facts.pp_size, facts.cp_size)
    if asked == built:
        yield from _experts(facts, profile)
        return
    ranks = profile.world_size
    names = ("tp", "pp", "cp")
    release = profile.trtllm_version or facts.version or "0.8"
    text = ""
    if ranks == facts.world_size:
        kind = next(name for name, a, b in zip(names, asked, built, strict=True) if a != b)
        text = said(f"{kind}_mismatch")
    elif _numbers(release) < [0, 12]:
        text = said("mpi_old")
    else:
        name = "mpi" if _numbers(release) < [0, 16] else "mpi_cp"
        text = said(name, ranks=ranks, tp=built[0], pp=built[1], cp=built[2])
    yield Mismatch(
        f"built for tp {built[0]}, pp {built[1]}, cp {built[2]}; the profile asks for "
        f"tp {asked[0]}, pp {asked[1]}, cp {asked[2]}",
        load_error=text,
        fix=REBUILD,
    )


def _experts(facts: EngineFacts, profile: DeploymentProfile) -> Iterator[Mismatch]:
    groups = facts.extras.get("moe_ep_size", 1)
    built = groups if isinstance(groups, int) and groups > 1 else 1
    asked = profile.effective_moe_expert_parallel_size
    if built != asked:
        yield Mismatch(
            f"its experts stand in {built} groups; the profile asks for {asked}", fix=SILENT
        )


def _precision(facts: EngineFacts, profile: DeploymentProfile) -> Iterator[Mismatch]:
    silent = SILENT
    if facts.dtype != profile.dtype:
        yield Mismatch(f"built in {facts.dtype}; the profile asks for {profile.dtype}", fix=silent)
    asked = WORDS.get(profile.quantization)
    if not facts.lab and asked is not None and facts.quantization not in asked:
        yield Mismatch(
            f"quantised as {facts.quantization}; the profile asks for {profile.quantization}",
            fix=silent,
        )
    cache = FP.get(facts.kv_cache_dtype, facts.kv_cache_dtype)
    if cache != profile.kv_cache_dtype:
        yield Mismatch(
            f"its KV cache is {cache}; the profile asks for {profile.kv_cache_dtype}", fix=silent
        )


# The profile's words for TensorRT-LLM's quant_algo; a word that is not here is not compared.
WORDS = {
    "none": {"none", "NO_QUANT"},
    "fp8": {"FP8", "FP8_PER_CHANNEL_PER_TOKEN"},
    "nvfp4": {"NVFP4"},
    "int8_wo": {"W8A16"},
    "int4_wo": {"W4A16"},
    "int4_awq": {"W4A16_AWQ"},
    "w4a8_awq": {"W4A8_AWQ"},
    "int4_gptq": {"W4A16_GPTQ"},
    "int8_sq": {
        *("W8A8_SQ", "W8A8_SQ_PER_CHANNEL", "W8A8_SQ_PER_TENSOR_PLUGIN"),
        *("W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN", "W8A8_SQ_PER_CHANNEL_PER_TENSOR_PLUGIN"),
        "W8A8_SQ_PER_TENSOR_PER_TOKEN_PLUGIN",
    },
}
SAID_BY_LIMIT = {"max_input_len": "prompt", "max_seq_len": "sequence"}


def _limits(facts: EngineFacts, profile: DeploymentProfile) -> Iterator[Mismatch]:
    for name, asked in profile.limits.model_dump().items():
        built = facts.limits.get(name)
        if built is None:
            yield Mismatch(f"its config.json does not tell {name}", "unknown", fix=REBUILD)
        elif built < asked and name == "max_input_len" and _longest_prompt(facts) >= asked:
            yield Mismatch(
                f"{name} is {built}, less than the profile's {asked}: padding removal and context FMHA"
                " pass it over",
                "warning",
            )
        elif built < asked:
            kind = SAID_BY_LIMIT.get(name)
            text = said(kind, asked=asked, built=built) if kind else ""
            yield Mismatch(
                f"{name} is {built}; the profile asks for {asked}", load_error=text, fix=REBUILD
            )
        elif built > asked:
            yield Mismatch(
                f"{name} is {built}, more than the profile's {asked}: memory that nobody uses",
                "warning",
            )


def _longest_prompt(facts: EngineFacts) -> int:
    """Tokens of a prompt that the runtime takes whatever max_input_len says; 0 where it holds."""
    fused = all(facts.plugins.get(name) for name in ("remove_input_padding", "context_fmha"))
    room = (facts.limits.get("max_seq_len", 1) - 1, facts.limits.get("max_num_tokens", 0))
    return min(room) if fused else 0


def _target(facts: EngineFacts, here: str, where: str) -> Iterator[Mismatch]:
    if not facts.sm:
        yield Mismatch(
            "which SM it is compiled for is not known: no receipt of its build holds, and its "
            "files don't tell",
            "unknown",
            fix="Build it with `runbook engine build`, whose receipt holds it; or let TensorRT try "
            "on that GPU: trtexec --loadEngine=rank0.engine",
        )
    elif facts.sm != here:
        yield Mismatch(
            f"compiled for {facts.sm}; {where} is {here}",
            load_error=said("sm", here=_dotted(here), built=_dotted(facts.sm)),
            fix=REBUILD,
        )


def _dotted(sm: str) -> str:
    digits = sm.removeprefix("sm")
    return f"{digits[:-1]}.{digits[-1:]}"


def against_node(
    facts: EngineFacts, node: Node, image: Image | None = None, slice_name: str = ""
) -> Iterator[Mismatch]:
    """Whether an engine runs on a node.

    Args:
        facts: the engine.
        node: where it is to run.
        image: what would serve it there.
        slice_name: the MIG slice that it asks for, such as `1g.10gb`; empty for whole GPUs.
    """
    at = f"node {node.name}"
    if not node.sm:
        yield Mismatch(
            f"{at} does not tell its SM: nvidia.com/gpu.compute.major and .minor are missing",
            "unknown",
            fix="Install GPU feature discovery (it comes with the GPU operator).",
        )
    else:
        yield from _target(facts, node.sm, at)
    built_on, product = facts.built_on.get("gpu", ""), node.label("gpu.product")
    if facts.sm == node.sm != "" and built_on and product and _other(built_on, product):
        yield Mismatch(
            f"built on {built_on}; {at} has {product}", "warning", load_error=said("model")
        )
    yield from _room(facts, node, at, slice_name)
    if image and image.driver and node.driver and _older(node.driver, image.driver):
        yield Mismatch(
            f"{at} has driver {node.driver}; {image.name} asks for {image.driver}",
            "warning",
            load_error=said("driver"),
            fix="Upgrade the driver, unless CUDA's forward compatibility covers this GPU.",
        )


def _other(built_on: str, product: str) -> bool:
    """Whether two names, of nvidia-smi and of the label, mean different GPUs."""
    name = built_on.replace(" ", "-")
    return name not in product and product not in name


def _room(facts: EngineFacts, node: Node, at: str, slice_name: str) -> Iterator[Mismatch]:
    stem = f"mig-{slice_name.replace('+', '.')}" if slice_name else "gpu"
    if slice_name and not node.label(f"{stem}.count"):
        stem = "gpu" if f"MIG-{slice_name}" in node.label("gpu.product") else stem
    count, memory = node.number(f"{stem}.count"), node.number(f"{stem}.memory")
    if count is None or memory is None:
        what = f"the slice {slice_name}" if slice_name else "its GPUs"
        yield Mismatch(f"{at} does not tell count and memory of {what}", "unknown")
        return
    if count < facts.world_size:
        text = said("gpus", gpus=count, per_node=facts.world_size, ranks=facts.world_size)
        yield Mismatch(
            f"it has {facts.world_size} ranks; {at} has {count} GPUs", load_error=text, fix=REBUILD
        )
    if slice_name and facts.world_size > 1:
        yield Mismatch("its ranks can't join MIG slices: NCCL does not", fix=REBUILD)
    largest = max((one.size for one in facts.ranks), default=0)
    if largest > memory * MIB:
        yield Mismatch(
            f"a rank has {largest / 1e9:.1f} GB; a GPU of {at} has {memory * MIB / 1e9:.1f} GB",
            fix="Quantise it, or build it over more GPUs.",
        )


def _older(one: str, other: str) -> bool:
    return _numbers(one) < _numbers(other)


def _numbers(version: str) -> list[int]:
    """The numbers at the beginning of a version; of `0.17.0.post1` three."""
    found = re.match(r"\d{1,6}(\.\d{1,6})*", version, re.ASCII)
    return [int(part) for part in found[0].split(".")] if found else []
