"""What both stages of the lab's builder share: phases on stdout, plain errors, whole outputs."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["StageError", "phase", "run", "whole"]


class StageError(Exception):
    """Why a stage can't go on, in words for its user."""


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Time one part of a stage; the lines are read by the build runner."""
    began = time.monotonic()
    print(f"[lab-build] phase {name} start", flush=True)
    yield
    print(f"[lab-build] phase {name} done {time.monotonic() - began:.3f}", flush=True)


@contextmanager
def whole(output: Path) -> Iterator[Path]:
    """A folder to fill that becomes `output` only when everything went well.

    Raises:
        StageError: `output` is a file, or a folder that holds something.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise StageError(f"--output_dir {output} exists and is no empty folder: give a new one")
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        yield work
        work.chmod(0o755)
        work.rename(output)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run(stage: Callable[[], None]) -> None:
    """Run a stage: exit 0, or 1 with the reason on stderr."""
    # NNCF asks for this variable and no other before it sends usage statistics.
    os.environ["NNCF_CI"] = "1"
    try:
        stage()
    except StageError as error:
        sys.exit(f"[lab-build] error: {error}")
    except OSError as error:
        sys.exit(f"[lab-build] error: {error.filename or 'writing'}: {error.strerror}")
    except RuntimeError as error:
        said = [line for line in str(error).splitlines() if line.strip()]
        sys.exit(
            f"[lab-build] error: OpenVINO refused: {said[-1] if said else type(error).__name__}"
        )
