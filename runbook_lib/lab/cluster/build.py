"""Build the cluster's parts once into the cache: `python -m runbook_lib.lab.cluster.build`.

About 20 minutes on two cores the first time; Go's own caches make a second build of the same
versions a matter of seconds. Two builders take turns.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from runbook_lib.errors import LabError, RunbookError
from runbook_lib.files import locked, whole_folder
from runbook_lib.lab.cluster.go import ensure_go
from runbook_lib.lab.cluster.parts import MODULES, Part, default_kserve, kserve_part, parts

__all__ = ["build", "ensure_parts", "main"]

OnLine = Callable[[str], None]


def ensure_parts(kserve: str, on_line: OnLine = lambda _: None) -> dict[str, Part]:
    """Every part of a cluster, KServe among them; what is missing is built.

    Raises:
        UsageError: no such KServe.
        LabError: Go is missing, or a build failed; in the compiler's words.
    """
    wanted = {**parts(), "kserve": kserve_part(kserve)}
    build([part for part in wanted.values() if not part.folder.is_dir()], on_line)
    return wanted


def build(missing: Sequence[Part], on_line: OnLine) -> None:
    """Build these parts, one program after another, and tell each step with its number."""
    if not missing:
        return
    go = ensure_go(on_line)
    total, done = sum(len(part.programs) for part in missing), 0
    for part in missing:
        with locked(part.folder.parent, f"{part.folder.name}.lock"):
            if not part.folder.is_dir():
                # Of a build that was killed: this one holds the lock.
                for stale in part.folder.parent.glob(f".{part.folder.name}.*.part"):
                    shutil.rmtree(stale)
                on_line(f"Getting the source of {part.name} {part.version}")
                with whole_folder(part.folder) as work:
                    for number, line in _build_part(go, part, work):
                        on_line(f"{done + number}/{total} {line}")
        done += len(part.programs)


def _build_part(go: Path, part: Part, work: Path) -> Iterator[tuple[int, str]]:
    """Build one part's programs into a folder; what is told comes with the program's number."""
    own = MODULES / part.name
    source = _source(go, part, own)
    flags = ["-s", "-w", *(f"-X {name}={text}" for name, text in part.settings.items())]
    for number, (program, package) in enumerate(part.programs.items(), 1):
        yield number, f"building {program} {part.version}"
        argv = [str(go), "build", "-buildvcs=false", "-mod=readonly", "-trimpath"]
        argv += ["-ldflags", " ".join(flags), "-o", str(work / program), package]
        for line in _lines(argv, source if part.own_sum else own):
            yield number, f"building {program}: {line}"
    for pattern in part.files:
        found = sorted(path for path in source.glob(pattern) if path.is_file())
        if not found:
            raise LabError(f"{part.module} {part.version} has no {pattern}.")
        for path in found:
            target = work / "files" / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _source(go: Path, part: Part, own: Path) -> Path:
    """The unpacked source in Go's module cache.

    A module's sum is checked by Go against the go.sum beside our go.mod, or by us against ours.

    Raises:
        LabError: it could not be had, or is not what we know.
    """
    # In a module of ours a bare name means the version of our go.mod.
    name = f"{part.module}@v{part.version}" if part.own_sum else part.module
    argv = [str(go), "mod", "download", "-json", name]
    folder = own.parent if part.own_sum else own
    facts: dict[str, Any] = json.loads("\n".join(_lines(argv, folder)))
    if part.own_sum and facts.get("Sum") != part.own_sum:
        raise LabError(
            f"{name} is not the module that this version of the runbooks was made with.",
            why=f"Its sum is {facts.get('Sum')}, and should be {part.own_sum}.",
            fix="Ask whoever runs your Go module proxy; nothing was built from it.",
        )
    return Path(facts["Dir"])


def _lines(argv: list[str], folder: Path) -> Iterator[str]:
    """What a command says, line by line.

    Raises:
        LabError: it failed; with its last lines.
    """
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    last: deque[str] = deque(maxlen=12)
    with subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line.rstrip())
            yield line.rstrip()
    if process.returncode != 0:
        raise LabError(
            f"`{' '.join(argv[:3])} … {argv[-1]}` failed.",
            why="\n".join(last),
            fix="Check disk space, memory and the way to your Go module proxy (`go env GOPROXY`), then try again.",
        )


def main(arguments: Sequence[str]) -> int:
    """Build the parts of a cluster with the KServe that is named, or the usual one."""
    try:
        ensure_parts(arguments[0] if arguments else default_kserve(), partial(print, flush=True))
    except RunbookError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
