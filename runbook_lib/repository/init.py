"""A profile's whole repository for a GPU: track engine or llmapi, of one TensorRT-LLM release.

    engine                                       llmapi
    ├── ensemble          text in, text out      ├── ensemble       the same tensors
    ├── preprocessing     text to tokens         └── tensorrt_llm   model.yaml, and the checkpoint
    ├── tensorrt_llm      the engine's files                        where it is at hand
    ├── postprocessing    tokens to text
    └── tensorrt_llm_bls  the same in one model

Every entry takes `text_input` and `max_tokens` and gives `text_output` and `output_lengths`. Where an
engine's answers are streamed and their characters take several tokens each, ask `tensorrt_llm_bls`: it
waits for whole characters, which an ensemble can't.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import RepositoryError
from runbook_lib.profile import DeploymentProfile
from runbook_lib.repository.init_parts import Sources, engine_parts, llmapi_parts, missing
from runbook_lib.repository.layout_tree import refuse_full, write_tree

__all__ = ["MOUNT", "Begun", "Sources", "begin"]

MOUNT = "/mnt/models"
"""Where KServe puts the repository."""


@dataclass(frozen=True)
class Begun:
    """A repository that was written.

    Attributes:
        files: every file of it.
        missing: what somebody must still put in, and where.
    """

    path: str
    files: tuple[str, ...]
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data, for `--json`."""
        return {
            "ok": True,
            "path": self.path,
            "files": list(self.files),
            "missing": list(self.missing),
        }

    def __str__(self) -> str:
        lines = [f"{len(self.files)} files in {self.path}"]
        return "\n".join([*lines, *(f"still missing: {one}" for one in self.missing)])


def begin(
    dest: Path,
    profile: DeploymentProfile,
    sources: Sources,
    *,
    version: str = "",
    mount: str = MOUNT,
) -> Begun:
    """Write the repository of a profile, whole or not at all.

    Args:
        dest: must not exist, or be an empty folder.
        version: TensorRT-LLM release; by default the profile's.
        mount: where the server sees the repository; the engine is named by its absolute path.

    Raises:
        RepositoryError: the release has no such layout, a folder that was given lacks what it must
            hold, `dest` holds something, or the disk does not take it.
    """
    refuse_full(dest)
    release = version or profile.trtllm_version or ""
    if profile.track == "engine":
        parts = engine_parts(profile, sources, release, mount)
    elif profile.track == "llmapi":
        parts = llmapi_parts(profile, sources, release)
    else:
        raise RepositoryError(
            f"{profile.profile} is of track {profile.track}, which needs no GPU.",
            fix="The lab lays out its own models.",
        )
    files = tuple(str(path) for path in write_tree(dest, parts))
    return Begun(str(dest), files, missing(profile, sources))
