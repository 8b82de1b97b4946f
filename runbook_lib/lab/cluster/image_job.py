"""The command of a build Job: the lab's own build commands, for the builder inside the image."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.engine.commands import Command

__all__ = ["lab_build_argv"]

# `lab-build` gives its own folders to each stage.
FOLDERS = {"--model_dir", "--checkpoint_dir", "--output_dir"}


def lab_build_argv(
    commands: Sequence[Command], *, model_dir: str, output: str, work: str
) -> list[str]:
    """The words of a container that builds what these commands build.

    Args:
        commands: as `builder_commands.build_commands` makes them: interpreter, program, options.
        model_dir: the weights: a folder in the container, or `s3://BUCKET/PREFIX/`.
        output: `s3://BUCKET/PREFIX/` of the engine.
        work: a folder in the container that can be written to.
    """
    own = ["lab-build", "--model_dir", model_dir, "--output", output, "--work", work, "--"]
    return own + [word for one in commands for word in (one.step, *_without_folders(one.argv[2:]))]


def _without_folders(words: Sequence[str]) -> list[str]:
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for pair in pairs if pair[0] not in FOLDERS for word in pair]
