"""Writes a Triton model repository: the plain layout that Triton loads from a disk or S3.

    dest/
    ├── ensemble/config.pbtxt            beside the version folder, never in it
    ├── ensemble/1/placeholder.txt       object stores know no empty folders, and KServe's
    │                                    downloader skips empty files
    ├── preprocessing/1/model.py, tokenizer/…
    ├── tensorrt_llm/1/model.py, config.json, rank0.engine, tokenizer/…
    └── …

Triton copies each model of an object store to a folder of its own, so every model brings what it
reads, and its paths are relative to its version folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runbook_lib.errors import RepositoryError
from runbook_lib.repository.config import fill_template, parse_config
from runbook_lib.repository.layout_tree import (
    CODE,
    CONFIG,
    TOKENIZER_FILES,
    ModelPart,
    files_of,
    refuse_full,
    write_tree,
)

__all__ = ["LayoutSettings", "write_repository"]


@dataclass(frozen=True)
class LayoutSettings:
    """What the written repository is made of and how it is served.

    Attributes:
        models_dir: one folder a model, with a `config.pbtxt` template and the files of its
            version folder. `${engine_dir}` in the template brings the engine with it,
            `${tokenizer_dir}` the tokenizer.
        max_batch_size: `${triton_max_batch_size}`, the largest batch of one request.
        decoupled: `${decoupled_mode}`. Needed for streaming; Triton then refuses `/infer` over
            HTTP and serves `/generate`, `/generate_stream` and gRPC streams.
        runtime_files: files copied beside the model that loads the engine.
        preprocessing_instances, postprocessing_instances, bls_instances: processes of each.
        max_queue_size: requests that may wait for the engine in Triton, 0 for any number.
        max_queue_delay_microseconds: how long Triton may gather requests for a batch.
        cancellation_check_period_ms: how often the engine looks for clients that left.
        stats_check_period_ms: how often the engine's gauges are written.
        extra: values for further placeholders of the templates.
    """

    models_dir: Path
    max_batch_size: int
    decoupled: bool = True
    runtime_files: tuple[Path, ...] = ()
    preprocessing_instances: int = 1
    postprocessing_instances: int = 1
    bls_instances: int = 1
    max_queue_size: int = 0
    max_queue_delay_microseconds: int = 0
    cancellation_check_period_ms: int = 100
    stats_check_period_ms: int = 100
    extra: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, str]:
        """The placeholders of the templates, by the names of NVIDIA's."""
        return {
            "triton_max_batch_size": str(self.max_batch_size),
            "decoupled_mode": str(self.decoupled).lower(),
            "engine_dir": ".",
            "tokenizer_dir": "tokenizer",
            "tensorrt_llm_model_name": "tensorrt_llm",
            "preprocessing_instance_count": str(self.preprocessing_instances),
            "postprocessing_instance_count": str(self.postprocessing_instances),
            "bls_instance_count": str(self.bls_instances),
            "max_queue_size": str(self.max_queue_size),
            "max_queue_delay_microseconds": str(self.max_queue_delay_microseconds),
            "cancellation_check_period_ms": str(self.cancellation_check_period_ms),
            "stats_check_period_ms": str(self.stats_check_period_ms),
            **self.extra,
        }


def write_repository(
    dest: Path, *, engine_dir: Path, tokenizer_dir: Path, settings: LayoutSettings
) -> list[Path]:
    """Write the repository at `dest`, whole or not at all.

    Files are written to a folder beside `dest`, which is renamed when everything is there. The
    engine's files are hard links where the file system allows it, else copies.

    Args:
        dest: the repository's root; must not exist, or be an empty folder.
        engine_dir: a folder with `config.json` and `rank*.engine`.
        tokenizer_dir: a folder with `tokenizer.json` and `tokenizer_config.json`.
        settings: models and values.

    Returns:
        The files written, sorted.

    Raises:
        RepositoryError: an input is missing, a placeholder has no value, `dest` holds something,
            or the disk does not take it.
    """
    _check_inputs(dest, engine_dir, tokenizer_dir, settings)
    parts = [
        ModelPart(model.name, text, _files(model, engine_dir, tokenizer_dir, settings))
        for model, text in _configs(settings)
    ]
    return write_tree(dest, parts)


def _check_inputs(
    dest: Path, engine_dir: Path, tokenizer_dir: Path, settings: LayoutSettings
) -> None:
    refuse_full(dest)
    if not any(engine_dir.glob("rank*.engine")):
        raise _missing(engine_dir / "rank0.engine", "Build the engine first.")
    needed = [engine_dir / "config.json"]
    needed += [tokenizer_dir / name for name in TOKENIZER_FILES[:2]]
    needed += settings.runtime_files
    for path in needed:
        if not path.is_file():
            raise _missing(path, "Give a folder that holds it.")


def _missing(path: Path, fix: str) -> RepositoryError:
    return RepositoryError(f"{path} does not exist.", why="The model repository needs it.", fix=fix)


def _configs(settings: LayoutSettings) -> Iterator[tuple[Path, str]]:
    models = sorted(path.parent for path in settings.models_dir.glob(f"*/{CONFIG}"))
    if not models:
        raise _missing(settings.models_dir / f"*/{CONFIG}", "Give a folder of model templates.")
    for model in models:
        where = f"{model.name}/{CONFIG}"
        text = fill_template(_template(model), settings.values(), where=where)
        parse_config(text, where=where)
        yield model, text


def _template(model: Path) -> str:
    return (model / CONFIG).read_text("utf-8")


def _files(
    model: Path, engine_dir: Path, tokenizer_dir: Path, settings: LayoutSettings
) -> dict[str, Path]:
    """What a model's version folder holds: its own files, else the common code; engine, tokenizer."""
    found = {name: path for name, path in files_of(model).items() if name != CONFIG}
    if not found and (CODE / model.name).is_dir():
        found = files_of(CODE / model.name)
    if "${engine_dir}" in _template(model):
        found |= {path.name: path for path in settings.runtime_files} | files_of(engine_dir)
    if "${tokenizer_dir}" in _template(model):
        names = [name for name in TOKENIZER_FILES if (tokenizer_dir / name).is_file()]
        found |= {f"tokenizer/{name}": tokenizer_dir / name for name in names}
    return found
