"""What each layer of the cluster's images holds, and how its files come together.

A part lays its files into a folder that becomes `/`. Its key is a digest of everything that decides
those files, so that a layer is made again exactly when one of them has changed.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import LabError
from runbook_lib.files import sha256_of
from runbook_lib.lab.builder_commands import BUILDER
from runbook_lib.lab.cluster import image_layers
from runbook_lib.lab.environment import LOCK
from runbook_lib.values import digest_of

__all__ = ["Part", "mirror_of", "parts", "pause_program"]

Told = Callable[[str], None]

FILES = Path(__file__).resolve().parent / "image_files"
STORAGE_LOCK = FILES / "storage.txt"
SUITE = "bookworm"
DEBIAN = ("python3", "libpython3.11", "ca-certificates")
# The lab's lock is made for this Python and this platform, whatever runs here.
TARGET = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_35")
# Where the image's own python3 looks by itself: Triton's stub reads no PYTHONPATH.
PACKAGES = Path("usr/local/lib/python3.11/dist-packages")
STORAGE = Path("opt/storage-initializer/lib")
UNUSED = (
    *("dev", "proc", "run", "sys"),
    *("usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man"),
    *("var/cache", "var/lib/apt/lists", "var/log"),
)
USER = "runbook:x:1000:1000::/tmp:/usr/sbin/nologin\n"


@dataclass(frozen=True)
class Part:
    """One layer to be: what decides it, what lays out its files, and what of them is left out."""

    name: str
    key: str
    lay_out: Callable[[Path, Told], None]
    leave_out: tuple[str, ...] = ()


def parts() -> dict[str, Part]:
    """Every layer of the images, by its name."""
    return {
        one.name: one
        for one in (
            _part("root", _lay_out_root, {"suite": SUITE, "packages": DEBIAN}, UNUSED),
            _part("storage", _lay_out_storage, _digests(STORAGE_LOCK, FILES / "initializer.py")),
            _part("triton", _lay_out_triton, _digests(LOCK)),
            _part("lab", _lay_out_lab, _digests(*_programs().values())),
            _part("pause", _lay_out_pause, {}),
        )
    }


def _part(
    name: str,
    lay_out: Callable[[Path, Told], None],
    inputs: Mapping[str, object],
    leave_out: tuple[str, ...] = (),
) -> Part:
    # How a layer is laid out and written decides its files too.
    code = _digests(Path(__file__), Path(image_layers.__file__))
    key = digest_of([name, dict(inputs), code]).removeprefix("sha256:")[:16]
    return Part(name, f"{name}-{key}", lay_out, leave_out)


def _digests(*files: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in files}


def mirror_of(sources: str) -> str:
    """The Debian mirror that a machine's apt sources name, in either of apt's forms; else empty."""
    blocks = re.split(r"\n\s*\n", sources)
    found = [dict(re.findall(r"^(\w+): *(.*)$", block, re.MULTILINE)) for block in blocks]
    rows = [
        (uri, one.get("Components", ""))
        for one in found
        if one.get("Enabled", "yes") != "no"
        for uri in one.get("URIs", "").split()
    ]
    rows += re.findall(r"^deb +(?:\[[^]]*\] +)?(\S+) +\S+ +(.*)$", sources, re.MULTILINE)
    for uri, components in rows:
        # Others have a `main` too; a mirror of Debian has it below a folder of that name.
        if re.match(r"https?://[^ ]+/debian(/|$)", uri) and "main" in components.split():
            return str(uri.rstrip("/"))
    return ""


def _apt_sources() -> str:
    apt = Path("/etc/apt")
    listed = sorted([*apt.glob("sources.list.d/*.sources"), *apt.glob("sources.list.d/*.list")])
    files = [path for path in (*listed, apt / "sources.list") if path.is_file()]
    return "\n\n".join(path.read_text("utf-8", errors="replace") for path in files)


def _lay_out_root(tree: Path, told: Told) -> None:
    mirror = mirror_of(_apt_sources())
    told(f"Fetching a small Debian from {mirror or 'its own mirror'} (about two minutes)")
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(DEBIAN)}"]
    # In a mount namespace of its own: what it mounts ends with it, however it ends.
    command = ["unshare", "--mount", "--propagation", "private", *command]
    command += [SUITE, str(tree), *([mirror] if mirror else [])]  # debootstrap knows Debian's own
    _run(command, "The images' Debian could not be fetched.", told)
    with (tree / "etc" / "passwd").open("a", encoding="utf-8") as handle:
        handle.write(USER)
    _compile(tree / "usr" / "lib", tree)


def _lay_out_storage(tree: Path, told: Told) -> None:
    told("Installing KServe's storage initializer")
    _install(STORAGE_LOCK, tree / STORAGE, tree)
    program = tree / "storage-initializer" / "scripts" / "initializer-entrypoint"
    _place({program: FILES / "initializer.py"}, executable=True)


def _lay_out_triton(tree: Path, told: Told) -> None:
    told("Installing Triton and the lab's compiler")
    _install(LOCK, tree / PACKAGES, tree)
    server = tree / PACKAGES / "pytriton" / "tritonserver"
    backend = tree / "opt" / "tritonserver" / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    stub = "triton_python_backend_stub"
    _place({backend / stub: server / "python_backend_stubs" / "3.11" / stub}, executable=True)
    _place({server / "bin" / "tritonserver": server / "bin" / "tritonserver"}, executable=True)


def _lay_out_lab(tree: Path, _told: Told) -> None:
    named = _programs()
    for name, source in named.items():
        _place({tree / name: source}, executable="/bin/" in name)


def _programs() -> dict[str, Path]:
    """Our own files in the serving image, by where they lie in it."""
    builder = {f"opt/lab/builder/{path.name}": path for path in BUILDER.glob("*.py")}
    return builder | {
        "opt/tritonserver/bin/tritonserver": FILES / "tritonserver",
    }


def _lay_out_pause(tree: Path, _told: Told) -> None:
    (tree / "pause").write_bytes(pause_program())
    (tree / "pause").chmod(0o755)


def pause_program() -> bytes:
    """A static x86-64 program that sleeps until it is killed: it holds the namespaces of a pod.

    Three instructions need no compiler; a Python that sleeps would take eight megabytes of each
    pod's memory limit.
    """
    code = bytes.fromhex("b822000000 0f05 ebf7")  # start: mov eax, 34 (pause); syscall; jmp start
    base, header, segment = 0x400000, 64, 56
    entry, size = base + header + segment, header + segment + len(code)
    elf = (b"\x7fELF\x02\x01\x01", 2, 62, 1, entry, header, 0, 0, header, segment, 1, 0, 0, 0)
    load = (1, 5, 0, base, base, size, size, 0x1000)
    return struct.pack("<16s2HI3QI6H", *elf) + struct.pack("<2I6Q", *load) + code


def _place(files: Mapping[Path, Path], *, executable: bool) -> None:
    """Copy files, never link them: uv's cache must keep its own modes."""
    for target, source in files.items():
        data = source.read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(data)
        target.chmod(0o755 if executable else 0o644)


def _install(lock: Path, target: Path, tree: Path) -> None:
    from uv import find_uv_bin

    command = [find_uv_bin(), "--no-progress", "pip", "sync", "--require-hashes", *TARGET]
    command += ["--python", sys.executable, "--target", str(target), str(lock)]
    _run(command, "The packages of the cluster's images could not be installed.", lambda _: None)
    for tests in list(target.rglob("tests")):  # a quarter of all files, which no container runs
        shutil.rmtree(tests, ignore_errors=True)
    _compile(target, tree)


def _compile(folder: Path, tree: Path) -> None:
    """Byte code that holds whatever a file's time: a read-only container could write none."""
    command = [sys.executable, "-m", "compileall", "-q", "-f", "-j", "0"]
    command += ["--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", "/", str(folder)]
    # Some packages carry samples of other Pythons, which nobody imports and which don't compile.
    subprocess.run(command, capture_output=True, check=False)


def _run(command: list[str], failed: str, told: Told) -> None:
    """Run a program away from this folder, whose pyproject.toml must not steer it.

    Raises:
        LabError: it failed; its last lines are the reason.
    """
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    environment["DEBIAN_FRONTEND"] = "noninteractive"
    last: deque[str] = deque(maxlen=12)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        env=environment,
        cwd="/",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line.rstrip())
            told(line.rstrip())
    if process.returncode:
        raise LabError(
            failed,
            why="\n".join(last)[-1000:],
            fix="Check disk space and the way to the Debian mirror and to your Python package "
            "index, then run the same command again.",
        )
