"""Build an engine from a converted checkpoint, for this CPU and for the limits given.

The stages and their options follow TensorRT-LLM's `trtllm-build`. Writes `config.json` in the
shape of its engines, and `rank0.engine`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from engine_config import LIMITS, check_limits, describe_engine
from engine_runtime import (
    BLOB,
    DESCRIPTION,
    ENGINE,
    EngineError,
    describe,
    generate,
    isa_levels,
    load,
    open_pipeline,
    settle_times,
    sha256_of,
    versions,
)
from stage import StageError, phase, run, whole

__all__ = ["main"]

FIXED_TIME = (1980, 1, 1, 0, 0, 0)
OPTIMIZATION_HELP = "1: activations are quantised while it runs, where weights are; 0: they are not"


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--checkpoint_dir", type=Path, required=True, help="what convert_checkpoint.py wrote")
    add("--output_dir", type=Path, required=True, help="new folder of the engine")
    for name in LIMITS:
        add(f"--{name}", type=int, required=True)
    add("--optimization_level", type=int, choices=(0, 1), default=1, help=OPTIMIZATION_HELP)
    options = parser.parse_args()
    run(lambda: build(options))


def build(options: argparse.Namespace) -> None:
    """Check the limits, compile for this CPU, pack, and load what was packed.

    Raises:
        StageError: an input is wrong, or the engine doesn't load; nothing is left behind.
    """
    checkpoint = _read(options.checkpoint_dir)
    limits = {name: getattr(options, name) for name in LIMITS}
    check_limits(limits, checkpoint, _memory_free())
    config = describe_engine(limits, checkpoint, _machine(), options.optimization_level)
    with whole(options.output_dir) as work:
        # Where engines are loaded too: the runtime binds a blob to the folder's size, which the
        # file system decides.
        with tempfile.TemporaryDirectory(prefix="engine-") as scratch:
            model = Path(scratch)
            with phase("compile"):
                _compile(options.checkpoint_dir, model, config)
            with phase("pack"):
                _pack(model, work, config)
        with phase("verify"):
            _verify(work, limits)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        checkpoint = json.loads(path.read_bytes())
        if checkpoint["architecture"] == "LlamaForCausalLM":
            return dict(checkpoint)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"--checkpoint_dir {folder} is no converted checkpoint: {error!r}"
        ) from None
    raise StageError(f"{path}: the lab builds LlamaForCausalLM, not {checkpoint['architecture']}")


def _memory_free() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise StageError("/proc/meminfo does not say how much memory is free")


def _machine() -> dict[str, Any]:
    import openvino as ov

    levels = isa_levels()
    if not levels:
        raise StageError("this CPU lacks AVX2, for which the compiler's paged attention is made")
    runs = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return {"isa": levels[0], **versions(), "runs": runs}


def _compile(checkpoint: Path, model: Path, config: dict[str, Any]) -> None:
    for path in sorted(checkpoint.glob("openvino_*")):
        shutil.copyfile(path, model / path.name)
    (model / BLOB).mkdir()
    settle_times(model)
    open_pipeline(model, config)
    if not any((model / BLOB).iterdir()):
        raise StageError("the compiler wrote no blob")


def _pack(model: Path, engine: Path, config: dict[str, Any]) -> None:
    """One file; names in order and one fixed time, so that bytes repeat as far as the blob does."""
    with zipfile.ZipFile(engine / ENGINE, "w", zipfile.ZIP_STORED) as archive:
        description = zipfile.ZipInfo(DESCRIPTION, FIXED_TIME)
        archive.writestr(description, json.dumps(describe(config)))
        for path in sorted(path for path in model.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(model).as_posix(), FIXED_TIME)
            archive.writestr(entry, path.read_bytes())
    config["lab"]["sha256"] = sha256_of(engine / ENGINE)
    (engine / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _verify(engine: Path, limits: dict[str, int]) -> None:
    """Load the packed file and let it read the longest input it must take."""
    try:
        loaded = load(engine)
    except EngineError as error:
        raise StageError(f"the engine just built does not load: {error}") from None
    if not generate(loaded.pipeline, [0] * limits["max_input_len"], 1):
        raise StageError("the engine just built generates nothing")
    if loaded.compiled:
        print(
            f"[lab-build] warning: OpenVINO {versions()['openvino']} can't read back the blob that "
            "it wrote, so every load of this engine compiles (2026.1 and 2026.2 can)",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
