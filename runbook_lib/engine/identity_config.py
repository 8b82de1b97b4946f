"""An engine's `config.json`, read for what it is: every release's shape, and whatever else lies there.

Since 0.8 `{"version", "pretrained_config", "build_config"}`; before that build.py wrote
`{"builder_config", "plugin_config"}` without a version. The lab writes the newer shape and adds `lab`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.errors import BuildError

__all__ = ["EngineConfig", "known_fields", "read_config", "read_json"]

DATA = Path(__file__).resolve().parent / "data" / "engine_config.json"
MAX_BYTES = 16 * 2**20  # a mixed-precision model's config lists every layer
MOST = 2**31 - 1  # the runtime reads sizes as 32-bit integers
MOST_RANKS = 4096
LIMITS = ("max_batch_size", "max_input_len", "max_seq_len", "max_num_tokens", "max_beam_width")
SHAPES = (*LIMITS, "max_output_len")
TOP = {"version", "pretrained_config", "build_config", "builder_config", "plugin_config", "lab"}
# QuantMode of the old build.py, by its bits (tensorrt_llm/quantization/mode.py).
OLD_WEIGHTS = ((1 << 8, "FP8"), (1 << 0, "W4A16"), (1 << 1, "W8A16"))
OLD_ACTIVATIONS, OLD_INT8_KV, OLD_FP8_KV = 1 << 2, 1 << 6, 1 << 7
SWITCHES = ("weight_streaming", "use_strip_plan", "use_refit")
OFF = (None, False, "disable", 0, "")


@dataclass(frozen=True)
class EngineConfig:
    """What a config.json says, in the words of the releases since 0.8.

    `kv_cache_type` is empty where it says neither a type nor whether the cache is paged; `extras`
    holds what only some engines have, `notes` what is unusual and stops nothing.
    """

    version: str
    architecture: str
    dtype: str
    quantization: str
    kv_cache_dtype: str
    kv_cache_type: str
    tp_size: int
    pp_size: int
    cp_size: int
    limits: dict[str, int]
    plugins: dict[str, Any]
    extras: dict[str, Any]
    notes: tuple[str, ...]
    lab: bool
    old: bool


def read_json(path: Path, *, most: int = MAX_BYTES) -> Any:
    """The value of a JSON file of bounded size and depth.

    Raises:
        OSError: it can't be read, or is no regular file. ValueError: it is no JSON, or too large.
    """
    if not path.is_file():  # a pipe would be waited for, a link can go in a circle
        reason = "a link that leads to no file" if path.is_symlink() else "missing"
        raise FileNotFoundError(2, reason)
    with path.open("rb") as handle:
        data = handle.read(most + 1)
    if len(data) > most:
        raise ValueError(f"larger than {most // 2**20} MiB")
    try:
        return json.loads(data, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")


def read_config(folder: Path) -> EngineConfig:
    """Read an engine directory's config.json; every problem at once.

    Raises:
        BuildError: it is missing, or not an engine's.
    """
    try:
        found = read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise _no_engine(folder, [_why(error)]) from None
    reading = _Reading()
    made = _old(found, reading) if _is_old(found) else _new(found, reading)
    if reading.problems:
        raise _no_engine(folder, reading.problems)
    return made


@cache
def known_fields() -> frozenset[str]:
    """Every field of `build_config` that some release writes."""
    releases = json.loads(DATA.read_bytes())["releases"].values()
    return frozenset(name for one in releases for name in one["fields"])


@dataclass
class _Reading:
    """Takes values out of a config and collects what is wrong with them."""

    problems: list[str] = field(default_factory=list)

    def part(self, source: object, key: str, *, needed: bool = True) -> dict[str, Any]:
        found = source.get(key) if isinstance(source, Mapping) else None
        if isinstance(found, dict) and (found or not needed):
            return found
        if found == {}:
            self.problems.append(f"{key} is empty")
        elif found is not None:
            self.problems.append(f"{key} is a {type(found).__name__}, not an object")
        elif needed:
            self.problems.append(f"{key} is missing")
        return {}

    def text(self, source: Mapping[str, Any], key: str, where: str) -> str:
        found = source.get(key)
        if isinstance(found, str) and found.isprintable() and 0 < len(found) < 200:
            return found
        said = "is missing" if found is None else f"is {found!r:.40}, not a name"
        self.problems.append(f"{where}.{key} {said}")
        return ""

    def count(
        self,
        source: Mapping[str, Any],
        key: str,
        where: str,
        *,
        default: int | None = None,
        most: int = MOST,
    ) -> int:
        found = source.get(key)
        if found is None and default is not None:
            return default
        if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= most:
            return found
        said = "is missing" if found is None else f"is {found!r:.40}, not 1 to {most}"
        self.problems.append(f"{where}.{key} {said}")
        return 1

    def shapes(self, source: Mapping[str, Any], where: str) -> dict[str, int]:
        given = [name for name in SHAPES if source.get(name) is not None]
        return {name: self.count(source, name, where) for name in given}


def _is_old(found: object) -> bool:
    return (
        isinstance(found, dict) and "builder_config" in found and "pretrained_config" not in found
    )


def _new(found: object, reading: _Reading) -> EngineConfig:
    if not isinstance(found, dict):
        reading.problems.append(f"it holds a {type(found).__name__}, not an object")
    model = reading.part(found, "pretrained_config")
    built = reading.part(found, "build_config")
    mapping = reading.part(model, "mapping") if model else {}
    quantization = reading.part(model, "quantization", needed=False)
    top = found if isinstance(found, dict) else {}
    dtype = reading.text(model, "dtype", "pretrained_config") if model else ""
    ranks = _ranks(mapping, reading) if mapping else (1, 1, 1)
    plugins = reading.part(built, "plugin_config", needed=False)
    return EngineConfig(
        version=reading.text(top, "version", "config.json") if top else "",
        architecture=reading.text(model, "architecture", "pretrained_config") if model else "",
        dtype=dtype,
        quantization=_plain(quantization.get("quant_algo") or "none"),
        kv_cache_dtype=_plain(quantization.get("kv_cache_quant_algo") or dtype),
        kv_cache_type=_cache_type(built, plugins),
        tp_size=ranks[0],
        pp_size=ranks[1],
        cp_size=ranks[2],
        limits=reading.shapes(built, "build_config"),
        plugins=_on(plugins),
        extras=_extras(built, mapping, reading),
        notes=_notes(top, built),
        lab="lab" in top,
        old=False,
    )


def _ranks(mapping: Mapping[str, Any], reading: _Reading) -> tuple[int, int, int]:
    where = "pretrained_config.mapping"
    tp = reading.count(mapping, "tp_size", where, most=MOST_RANKS)
    pp = reading.count(mapping, "pp_size", where, default=1, most=MOST_RANKS)
    cp = reading.count(mapping, "cp_size", where, default=1, most=MOST_RANKS)
    world = reading.count(mapping, "world_size", where, default=tp * pp * cp, most=MOST_RANKS)
    if world != tp * pp * cp and not reading.problems:
        reading.problems.append(
            f"{where}.world_size is {world}, and tp_size {tp} times pp_size {pp} times cp_size {cp} "
            f"is {tp * pp * cp}"
        )
    return tp, pp, cp


def _cache_type(built: Mapping[str, Any], plugins: Mapping[str, Any]) -> str:
    if isinstance(said := built.get("kv_cache_type"), str):
        return _plain(said.lower())
    paged = plugins.get("paged_kv_cache")
    return "" if paged is None else "continuous" if paged in OFF else "paged"


def _on(plugins: Mapping[str, Any]) -> dict[str, Any]:
    """Plugins and switches that are on, by their own names."""
    on = {name: value for name, value in plugins.items() if value not in OFF}
    return {
        _plain(name): _plain(value) if isinstance(value, str) else value
        for name, value in sorted(on.items())
        if isinstance(value, str | int)
    }


def _extras(
    built: Mapping[str, Any], mapping: Mapping[str, Any], reading: _Reading
) -> dict[str, Any]:
    lora = reading.part(built, "lora_config", needed=False)
    parallel = reading.part(built, "auto_parallel_config", needed=False)
    candidates = {
        "moe_tp_size": mapping.get("moe_tp_size"),
        "moe_ep_size": mapping.get("moe_ep_size"),
        "lora_modules": lora.get("lora_target_modules"),
        "max_lora_rank": lora.get("max_lora_rank") if lora.get("lora_target_modules") else None,
        "auto_parallel": parallel.get("world_size"),
        "max_draft_len": built.get("max_draft_len"),
        "max_prompt_embedding_table_size": built.get("max_prompt_embedding_table_size"),
        **{name: "on" for name in SWITCHES if built.get(name) is True},
    }
    return {name: value for name, value in candidates.items() if not _ordinary(value)}


def _ordinary(value: object) -> bool:
    """Whether most engines have it so: off, none, or one of one."""
    return value in OFF or value == [] or (isinstance(value, int) and abs(value) == 1)


def _plain(value: object) -> str:
    """What stands in a file as it can be printed: no control characters, not endless."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(value))[
        :200
    ]


def _notes(top: Mapping[str, Any], built: Mapping[str, Any]) -> tuple[str, ...]:
    """What no release is known to write: the runtime passes it over."""
    told = []
    if stray := sorted(top.keys() - TOP):
        told.append(f"config.json has keys of no known release: {_plain(', '.join(stray))}")
    if "lab" not in top and (stray := sorted(built.keys() - known_fields())):
        told.append(f"build_config has keys of no known release: {_plain(', '.join(stray))}")
    return tuple(told)


def _old(found: Mapping[str, Any], reading: _Reading) -> EngineConfig:
    built = reading.part(found, "builder_config")
    plugins = reading.part(found, "plugin_config", needed=False)
    where = "builder_config"
    dtype = reading.text(built, "precision", where) if built else ""
    mode = reading.count(built, "quant_mode", where, default=0) if built.get("quant_mode") else 0
    cache = {OLD_INT8_KV: "INT8", OLD_FP8_KV: "FP8"}.get(mode & (OLD_INT8_KV | OLD_FP8_KV), dtype)
    weights = next((name for bit, name in OLD_WEIGHTS if mode & bit), "none")
    both = mode & OLD_ACTIVATIONS and weights == "W8A16"
    return EngineConfig(
        version="",
        architecture=reading.text(built, "name", where) if built else "",
        dtype=dtype,
        quantization="W8A8_SQ" if both else weights,
        kv_cache_dtype=cache,
        kv_cache_type=_cache_type({}, plugins),
        tp_size=reading.count(built, "tensor_parallel", where, default=1, most=MOST_RANKS),
        pp_size=reading.count(built, "pipeline_parallel", where, default=1, most=MOST_RANKS),
        cp_size=1,
        limits=reading.shapes(built, where),
        plugins=_on(plugins),
        extras={},
        notes=("written by build.py before 0.8, which names no version",),
        lab=False,
        old=True,
    )


def _no_engine(folder: Path, problems: list[str]) -> BuildError:
    return BuildError(
        f"{folder} is no engine directory.",
        why=f"config.json: {'; '.join(problems)}",
        fix="Give the folder that trtllm-build (or page 01) wrote: config.json and rank*.engine.",
        page="01_build_engine",
    )


def _why(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) else str(error)
