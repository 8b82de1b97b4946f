"""The lab's own Python environment: Triton, the compiler and NumPy 1, apart from the notebooks'.

Made by `uv` from the locked list beside this file, once for each version of that list, in the
cache folder. What the system must bring is checked first and named in one line each.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import LabError, PreflightError
from runbook_lib.files import locked
from runbook_lib.places import cache_dir
from runbook_lib.serving.triton import TritonInstall

__all__ = ["LabEnvironment", "ensure", "expected", "find"]

HERE = Path(__file__).resolve().parent
LOCK = HERE / "requirements.txt"
TRITON_VERSION = "2.51.0"
APT_PACKAGES = {
    "libpython3.11.so.1.0": "libpython3.11",
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
    "libz.so.1": "zlib1g",
    "libexpat.so.1": "libexpat1",
}


@dataclass(frozen=True)
class LabEnvironment:
    """A ready environment: its interpreter, and the Triton inside it."""

    root: Path
    triton: TritonInstall

    @property
    def python(self) -> Path:
        """The interpreter that builds engines."""
        return self.root / "bin" / "python"


def ensure(on_line: Callable[[str], None] = lambda _: None) -> LabEnvironment:
    """The environment of this version's lock; made (some seconds, after the download) if missing.

    Raises:
        PreflightError: this machine can't run it; each missing thing has its command.
        LabError: the installation failed; the reason is the installer's own.
    """
    if (ready := find()) is not None:
        return ready
    _check_platform()
    root = _root()
    with locked(root.parent, f"{root.name}.lock"):
        if (ready := find()) is None:
            on_line(f"Making the lab's environment in {root} (about 620 MB on disk)")
            _install(root)
            ready = _describe(root)
    return ready


def find() -> LabEnvironment | None:
    """The environment if it was made whole."""
    root = _root()
    return _describe(root) if (root / "ready.json").is_file() else None


def expected() -> LabEnvironment:
    """Where the environment is, or will be once it is made; makes nothing."""
    return _describe(_root())


def _root() -> Path:
    interpreter = f"{sys.version_info.major}.{sys.version_info.minor}:{sys.base_prefix}"
    key = hashlib.sha256(LOCK.read_bytes() + interpreter.encode()).hexdigest()[:12]
    return cache_dir() / "lab-environment" / key


def _check_platform() -> None:
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise PreflightError(
            f"The lab runs on Linux x86_64, this is {system} {machine}.",
            why="Its Triton server and OpenVINO come as Linux x86_64 binaries.",
            fix="Run it in a Debian 12 container or machine; the other targets work from here.",
        )
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(int(part) for part in version.split(".")[:2]) < (2, 35):
        raise PreflightError(
            f"The lab's Triton needs glibc 2.35 or newer, this is {name or 'another libc'} {version}.",
            fix="Use Debian 12, Ubuntu 22.04 or newer.",
        )


def _install(root: Path) -> None:
    if root.exists():
        shutil.rmtree(root)
    _uv("venv", "--python", str(Path(sys.base_prefix) / "bin" / "python3.11"), str(root))
    _uv("pip", "sync", "--require-hashes", "--python", str(root / "bin" / "python"), str(LOCK))
    _lay_out_backends(root)
    _check_libraries(_describe(root))
    facts = {"triton": TRITON_VERSION, "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest()}
    (root / "ready.json").write_text(json.dumps(facts), encoding="utf-8")


def _uv(*arguments: str) -> None:
    from uv import find_uv_bin

    command = [find_uv_bin(), "--no-progress", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    # Away from the present folder: a stranger's pyproject.toml must not steer this installation.
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd="/", check=False
    )
    if done.returncode != 0:
        raise LabError(
            "The lab's environment could not be installed.",
            why=done.stderr.strip()[-800:],
            fix="Check disk space and the way to your Python package index, then run the same command again.",
        )


def _site_packages(root: Path) -> Path:
    return (
        root / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    )


def _lay_out_backends(root: Path) -> None:
    """Triton wants the stub of its Python version beside the Python backend."""
    server = _site_packages(root) / "pytriton" / "tritonserver"
    backend = root / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = backend / "triton_python_backend_stub"
    shutil.copy2(server / "python_backend_stubs" / version / stub.name, stub)
    stub.chmod(0o755)
    (server / "bin" / "tritonserver").chmod(0o755)


def _describe(root: Path) -> LabEnvironment:
    packages = _site_packages(root)
    python_library = Path(str(sysconfig.get_config_var("LIBDIR")))
    install = TritonInstall(
        server=packages / "pytriton" / "tritonserver" / "bin" / "tritonserver",
        backends=root / "backends",
        python_bin=root / "bin",
        site_packages=packages,
        libraries=(python_library, packages / "nvidia_pytriton.libs"),
        version=TRITON_VERSION,
    )
    return LabEnvironment(root, install)


def _check_libraries(environment: LabEnvironment) -> None:
    """Name every shared library that the server or its stub lacks, with the package that has it."""
    install = environment.triton
    missing: list[str] = []
    for program in (install.server, install.backends / "python" / "triton_python_backend_stub"):
        command = ["ldd", str(program)]
        answer = subprocess.run(
            command, capture_output=True, text=True, env=install.environment(), check=False
        )
        missing += re.findall(r"(\S+) => not found", answer.stdout)
    if missing:
        packages = sorted({APT_PACKAGES.get(library, library) for library in missing})
        raise PreflightError(
            f"Triton lacks {', '.join(sorted(set(missing)))}.",
            fix=f"apt-get install -y {' '.join(packages)}",
        )
