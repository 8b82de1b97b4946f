"""The images of the test cluster, made on this machine: Triton with the builder, the initializer, pause.

They are written once into the cache as one docker-archive, and named by a digest of everything that
went into them: what changes an input changes the names.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import PreflightError
from runbook_lib.files import locked, whole_folder
from runbook_lib.lab.cluster.image_layers import (
    Image,
    Layer,
    copy_layer,
    write_archive,
    write_layer,
)
from runbook_lib.lab.cluster.image_parts import Part, parts
from runbook_lib.values import digest_of

__all__ = ["Images", "ensure_images", "expected_images"]

ARCHIVE = "images.tar"
SPACE = 3_000_000_000
PROGRAMS = {"debootstrap": "debootstrap debian-archive-keyring", "unshare": "util-linux"}
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
COMMON = {"User": "1000", "WorkingDir": "/"}
# A home that can be written to, wherever a pod gives none: its root is read-only.
ENVIRONMENT = ("HOME=/tmp", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1")
SERVING = f"PATH=/opt/tritonserver/bin:{SEARCH_PATH}"
# Each image: its layers from the bottom, and what its containers start.
IMAGES: Mapping[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {
    "triton": (
        ("root", "storage", "triton", "lab"),
        {"Env": [SERVING, *ENVIRONMENT], "Cmd": ["tritonserver"]},
    ),
    "storage-initializer": (
        ("root", "storage"),
        {
            "Env": [f"PATH={SEARCH_PATH}", *ENVIRONMENT],
            "Entrypoint": ["/storage-initializer/scripts/initializer-entrypoint"],
        },
    ),
    "pause": (("pause",), {"Entrypoint": ["/pause"]}),
}


@dataclass(frozen=True)
class Images:
    """The archive, the name of each image in it, and the digest that the names are made from."""

    archive: Path
    triton: str
    storage_initializer: str
    pause: str
    digest: str


def expected_images(folder: Path) -> Images:
    """The images of this version, made or not yet."""
    keys = {name: part.key for name, part in parts().items()}
    said = {
        name: [[keys[layer] for layer in layers], dict(settings)]
        for name, (layers, settings) in IMAGES.items()
    }
    digest = digest_of([said, COMMON]).removeprefix("sha256:")[:12]
    return Images(
        archive=folder / digest / ARCHIVE,
        triton=_name("triton", digest),
        storage_initializer=_name("storage-initializer", digest),
        pause=_name("pause", digest),
        digest=digest,
    )


def _name(image: str, digest: str) -> str:
    return f"runbook.local/{image}:{digest}"


def ensure_images(folder: Path, *, on_line: Callable[[str], None] = lambda _: None) -> Images:
    """The images of this version, made in `folder` if they are not there.

    Two that ask at once take turns. Layers that are the same as before are taken over from the
    archive before, which is then dropped.

    Args:
        folder: where archives are kept, one a version.
        on_line: is told each step, and the sizes at the end.

    Raises:
        PreflightError: this machine can't make them; each missing thing has its command.
        LabError: Debian's or Python's packages could not be fetched; the reason is the installer's own.
    """
    images = expected_images(folder)
    if images.archive.is_file():
        return images
    with locked(folder):
        if not images.archive.is_file():
            _preflight(folder)
            _make(images, folder, on_line)
    return images


def _preflight(folder: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64") or os.geteuid():
        raise PreflightError(
            "The cluster's images are made as root on Linux x86_64.",
            why="Debian's installer enters the new system, and Triton comes for x86_64.",
            fix="Run the same command with sudo, or use a cluster that you have.",
        )
    if missing := [package for name, package in PROGRAMS.items() if not shutil.which(name)]:
        raise PreflightError(
            "A program that makes the cluster's images is missing.",
            fix=f"apt-get install -y {' '.join(missing)}",
        )
    if (free := shutil.disk_usage(folder).free) < SPACE:
        raise PreflightError(
            f"{folder} has {free / 1e9:.1f} GB free; making the cluster's images takes {SPACE / 1e9:.0f}.",
            fix="Make room, or set RUNBOOK_CACHE to a folder on a larger disk.",
        )


def _make(images: Images, folder: Path, told: Callable[[str], None]) -> None:
    began = time.monotonic()
    for stale in folder.glob(".*.part"):  # of a build that was killed; this one holds the lock
        shutil.rmtree(stale, ignore_errors=True)
    older = sorted(path for path in folder.glob(f"*/{ARCHIVE}"))
    with whole_folder(images.archive.parent) as work:
        layers = {name: _layer(part, work, older, told) for name, part in parts().items()}
        told("Writing the archive of the images")
        made = [
            Image(_name(name, images.digest), [layers[one] for one in held], {**COMMON, **settings})
            for name, (held, settings) in IMAGES.items()
        ]
        write_archive(work / ARCHIVE, made)
        sizes = {name: layer.tar.stat().st_size for name, layer in layers.items()}
        for layer in layers.values():
            layer.tar.unlink()
    for path in older:
        shutil.rmtree(path.parent, ignore_errors=True)
    said = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in sizes.items())
    told(
        f"The cluster's images are made ({time.monotonic() - began:.0f} s; layers in MB: {said}; "
        f"archive {images.archive.stat().st_size / 1e6:.0f} MB)"
    )


def _layer(part: Part, work: Path, older: list[Path], told: Callable[[str], None]) -> Layer:
    tar = work / f"{part.name}.tar"
    if (kept := copy_layer(older, part.key, tar)) is not None:
        told(f"Taking over {part.name} from the images before")
        return kept
    tree = work / part.name
    tree.mkdir()
    part.lay_out(tree, told)
    write_layer(tree, tar, leave_out=part.leave_out)
    shutil.rmtree(tree)
    return Layer.of(part.key, tar)
