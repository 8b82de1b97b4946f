"""Check and load an engine of the lab. Stands alone: it is copied beside Triton's model.py.

    python engine_runtime.py check DIR
    python engine_runtime.py generate DIR --ids 1,2,3 --max_new_tokens 8

`rank0.engine` is an uncompressed ZIP: the model as IR, its tokenizer, the blob that the compiler
made of it for this CPU, and the engine's own description. The runtime itself serves a blob with
flipped bits, and compiles anew in silence where it can't read one (README.md). Therefore nothing
is loaded before its digest has been checked, and a load tells whether it compiled.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "EngineError",
    "Loaded",
    "check",
    "describe",
    "generate",
    "isa_levels",
    "kv_blocks",
    "load",
    "open_pipeline",
    "settle_times",
    "versions",
]

ENGINE = "rank0.engine"
DESCRIPTION = "engine.json"
BLOB = "blob"
BLOCK_TOKENS = 32
MODEL_FD = 240
FIXED_TIME = 315_532_800  # 1980-01-01, the earliest that a ZIP can hold
# Instruction sets, best first; paged attention has no kernels below AVX2.
LEVELS = (
    ("amx", {"amx_tile", "amx_int8", "amx_bf16"}),
    ("avx512_bf16", {"avx512f", "avx512_bf16"}),
    ("avx512_vnni", {"avx512f", "avx512_vnni"}),
    ("avx512", {"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
    ("avx2_vnni", {"avx2", "avx_vnni"}),
    ("avx2", {"avx2", "fma"}),
)


class EngineError(Exception):
    """Why an engine is not loaded, in words for its user."""


@dataclass(frozen=True)
class Loaded:
    """An engine that runs.

    `compiled` is False when the stored blob was used as it is, and True when the runtime could
    not read it and compiled the model again.
    """

    pipeline: Any
    config: dict[str, Any]
    compiled: bool
    seconds: float


def isa_levels(cpuinfo: str | None = None) -> list[str]:
    """The instruction sets of this CPU that the compiler has kernels for, best first."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if cpuinfo is None else cpuinfo
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    return [name for name, needed in LEVELS if needed <= flags]


def versions() -> dict[str, str]:
    """The compiler and runtime that an engine is bound to."""
    from importlib.metadata import version

    return {"openvino": version("openvino"), "openvino_genai": version("openvino-genai")}


def check(engine_dir: str | Path) -> list[str]:
    """Every reason why an engine can't run here; loads nothing.

    First what it was built for, then whether its files are whole.
    """
    folder = Path(engine_dir)
    try:
        config = json.loads((folder / "config.json").read_bytes())
        lab, ranks = config["lab"], config["pretrained_config"]["mapping"]["world_size"]
        digest, isa, built = lab["sha256"], lab["isa"], {name: lab[name] for name in versions()}
        names = [f"rank{rank}.engine" for rank in range(ranks)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"config.json of the engine can't be used: {type(error).__name__}: {error}"]
    problems = []
    if isa not in (here := isa_levels()):
        best = here[0] if here else "less than avx2"
        problems.append(f"the engine was built for isa {isa}, this CPU has {best}")
    for name, now in versions().items():
        if built[name] != now:
            problems.append(
                f"the engine was built with {name} {built[name]}, this runtime is {now}"
            )
    problems += [f"{name} is missing" for name in names if not (folder / name).is_file()]
    return problems or _damage(folder, config, digest)


def _damage(folder: Path, config: dict[str, Any], digest: str) -> list[str]:
    if digest != sha256_of(folder / ENGINE):
        return [f"{ENGINE} is cut or altered: its digest is not the one it was built with"]
    with zipfile.ZipFile(folder / ENGINE) as archive:
        built = json.loads(archive.read(DESCRIPTION))
    if describe(config) != built:
        return ["config.json was altered: it does not say what the engine was built as"]
    return []


def describe(config: dict[str, Any]) -> dict[str, Any]:
    """An engine's config.json without the digest of the file that this description is in."""
    lab = {key: value for key, value in config["lab"].items() if key != "sha256"}
    return {**config, "lab": lab}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def load(engine_dir: str | Path) -> Loaded:
    """Check an engine and load it from a private temporary copy.

    Raises:
        EngineError: it doesn't belong here, is damaged, or the runtime refuses it.
    """
    began = time.monotonic()
    folder = Path(engine_dir)
    if problems := check(folder):
        raise EngineError("; ".join(problems))
    config = json.loads((folder / "config.json").read_bytes())
    try:
        with tempfile.TemporaryDirectory(prefix="engine-") as name:
            with zipfile.ZipFile(folder / ENGINE) as archive:
                archive.extractall(name)
            settle_times(Path(name))
            before = _stamps(Path(name))
            pipeline = open_pipeline(Path(name), config)
            compiled = _stamps(Path(name)) != before
    except (OSError, RuntimeError) as error:
        raise EngineError(f"the engine can't be loaded: {error}") from error
    return Loaded(pipeline, config, compiled, time.monotonic() - began)


def settle_times(model: Path) -> None:
    """Give a model's folder and files one fixed time: the runtime binds a blob to it."""
    for path in [*model.rglob("*"), model]:
        os.utime(path, (FIXED_TIME, FIXED_TIME))


def _stamps(model: Path) -> dict[str, tuple[int, int, int]]:
    """What tells whether the runtime wrote a blob: it replaces one that it can't read."""
    found = {path.name: path.stat() for path in (model / BLOB).iterdir()}
    return {name: (one.st_ino, one.st_mtime_ns, one.st_size) for name, one in found.items()}


def open_pipeline(model: Path, config: dict[str, Any]) -> Any:
    """A continuous-batching pipeline bounded by the engine's limits.

    Args:
        model: a folder with the IR; the compiled blob is read from or written to its `blob/`.
        config: the engine's config.json.
    """
    import openvino_genai

    built = config["build_config"]
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_seqs = built["max_batch_size"]
    scheduler.max_num_batched_tokens = built["max_num_tokens"]
    scheduler.num_kv_blocks = kv_blocks(built)
    scheduler.enable_prefix_caching = False
    with _same_path(model) as path:
        properties = {
            "KV_CACHE_PRECISION": config["pretrained_config"]["quantization"][
                "kv_cache_quant_algo"
            ],
            "INFERENCE_PRECISION_HINT": config["lab"]["computes_in"],
            "CACHE_DIR": str(model / BLOB),
            "CACHE_MODE": "OPTIMIZE_SPEED",
        }
        if built.get("optimization_level") == 0:
            properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = "0"
        return openvino_genai.ContinuousBatchingPipeline(path, scheduler, "CPU", properties)


@contextmanager
def _same_path(model: Path) -> Iterator[str]:
    """A path to the folder that is the same in every process.

    The runtime looks its blobs up by a hash that takes in the model's path, and this file is
    loaded from another temporary folder each time. The link of a file descriptor with a fixed
    number stays. If the number is taken, the path differs and the load compiles, and says so.
    """
    opened = os.open(model, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fixed = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, MODEL_FD)
    finally:
        os.close(opened)
    try:
        yield f"/proc/self/fd/{fixed}"
    finally:
        os.close(fixed)


def kv_blocks(build_config: dict[str, int]) -> int:
    """Blocks of 32 tokens that hold `max_batch_size` sequences of `max_seq_len` tokens each."""
    return build_config["max_batch_size"] * -(-build_config["max_seq_len"] // BLOCK_TOKENS)


def generate(pipeline: Any, prompt: Sequence[int], tokens: int) -> list[int]:
    """Greedy tokens after a prompt of token ids."""
    import numpy as np
    import openvino
    import openvino_genai

    options = openvino_genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True)
    ids = openvino.Tensor(np.array([prompt], dtype=np.int64))
    handle = pipeline.add_request(0, ids, options)
    said: list[int] = []
    while pipeline.has_non_finished_requests():
        pipeline.step()
        while handle.can_read():
            for part in handle.read().values():
                said += part.generated_ids
    return said


def _identity(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / "config.json").read_bytes())
        return {
            "lab": config["lab"],
            "dtype": config["pretrained_config"]["dtype"],
            "quantization": config["pretrained_config"]["quantization"],
            "mapping": config["pretrained_config"]["mapping"],
            "limits": config["build_config"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _speak(folder: Path, prompt: list[int], tokens: int) -> dict[str, Any]:
    loaded = load(folder)
    words = loaded.config["pretrained_config"]["vocab_size"]
    if any(not 0 <= token < words for token in prompt):
        raise EngineError(f"--ids must be token ids from 0 to {words - 1}")
    limits = loaded.config["build_config"]
    if len(prompt) > limits["max_input_len"] or len(prompt) + tokens > limits["max_seq_len"]:
        raise EngineError(f"{len(prompt)} ids and {tokens} new tokens are past the limits {limits}")
    began = time.monotonic()
    ids = generate(loaded.pipeline, prompt, tokens)
    return {
        "ids": ids,
        "seconds": time.monotonic() - began,
        "load_seconds": loaded.seconds,
        "compiled": loaded.compiled,
    }


def main() -> int:
    """Check an engine, or generate with it; prints JSON, returns 1 when it can't run here."""
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("check", "generate"):
        actions.add_parser(action).add_argument("engine_dir", type=Path)
    speak = actions.choices["generate"]
    speak.add_argument(
        "--ids", type=lambda text: [int(one) for one in text.split(",")], required=True
    )
    speak.add_argument("--max_new_tokens", type=int, default=8)
    options = parser.parse_args()
    problems, answer = [], {}
    if options.action == "check":
        problems = check(options.engine_dir)
        answer = {"identity": _identity(options.engine_dir)}
    else:
        try:
            answer = _speak(options.engine_dir, options.ids, options.max_new_tokens)
        except EngineError as error:
            problems = [str(error)]
    print(json.dumps({"ok": not problems, "problems": problems, **answer}))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
