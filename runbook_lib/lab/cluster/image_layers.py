"""Layers of images and the docker-archive that holds them, byte for byte the same from the same files."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from runbook_lib.files import sha256_of
from runbook_lib.values import canonical_json

__all__ = ["Image", "Layer", "copy_layer", "write_archive", "write_layer"]

# 1980: old enough to be nobody's news, and a time that every archive format can hold.
FIXED_TIME = 315_532_800
MANIFEST = "manifest.json"
ALL_MAY_WRITE = {"tmp", "var/tmp"}


@dataclass(frozen=True)
class Layer:
    """One layer: the key of what it was made from, and its tar."""

    key: str
    tar: Path
    diff_id: str

    @classmethod
    def of(cls, key: str, tar: Path) -> Layer:
        """The layer in a tar file."""
        return cls(key, tar, f"sha256:{sha256_of(tar)}")

    @property
    def member(self) -> str:
        """Its name inside an archive."""
        return _member(self.key)


@dataclass(frozen=True)
class Image:
    """A named image: its layers from the bottom, and the settings its containers start with."""

    name: str
    layers: Sequence[Layer]
    settings: Mapping[str, Any]

    def config(self) -> bytes:
        """The image's configuration as the archive holds it."""
        return canonical_json(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": "1980-01-01T00:00:00Z",
                "config": dict(self.settings),
                "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in self.layers]},
            }
        )


def write_layer(tree: Path, tar: Path, *, leave_out: Iterable[str] = ()) -> None:
    """Write the content of a folder as a layer: everything owned by root, readable by everybody.

    Args:
        tree: the folder that becomes `/`.
        tar: the file to write.
        leave_out: relative paths whose content is left out; the folders themselves stay.
    """
    empty = set(leave_out)
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in _walk(tree, tree, empty):
            _add(archive, path, path.relative_to(tree).as_posix())


def _walk(folder: Path, tree: Path, empty: set[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink() and str(path.relative_to(tree)) not in empty:
            yield from _walk(path, tree, empty)


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime = FIXED_TIME
    if path.is_symlink():
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        archive.addfile(entry)
    elif path.is_dir():
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name in ALL_MAY_WRITE else 0o755
        archive.addfile(entry)
    elif path.is_file():  # no device nodes and sockets: the runtime gives a container its own
        found = path.stat()
        # Whatever umask the builder had; and set-user-id programs have no place here.
        entry.mode, entry.size = 0o755 if found.st_mode & 0o111 else 0o644, found.st_size
        with path.open("rb") as handle:
            archive.addfile(entry, handle)


def write_archive(path: Path, images: Sequence[Image]) -> None:
    """Write images as one docker-archive; a layer that several share is held once."""
    layers = {layer.member: layer for image in images for layer in image.layers}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        rows = []
        for image in images:
            config = image.config()
            named = f"{hashlib.sha256(config).hexdigest()}.json"
            _add_bytes(archive, named, config)
            held = [layer.member for layer in image.layers]
            rows.append({"Config": named, "RepoTags": [image.name], "Layers": held})
        _add_bytes(archive, MANIFEST, json.dumps(rows).encode())
        for member, layer in layers.items():
            with layer.tar.open("rb") as handle:
                _add_file(archive, member, layer.tar.stat().st_size, handle)


def copy_layer(archives: Iterable[Path], key: str, tar: Path) -> Layer | None:
    """The layer of this key out of the first of older archives that holds it, None where none does."""
    for path in archives:
        with tarfile.open(path) as archive:
            try:
                stored = archive.extractfile(_member(key))
            except KeyError:
                continue
            assert stored is not None
            with stored, tar.open("wb") as handle:
                shutil.copyfileobj(stored, handle, 1 << 20)
        return Layer.of(key, tar)
    return None


def _member(key: str) -> str:
    return f"layers/{key}.tar"


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    _add_file(archive, name, len(data), io.BytesIO(data))


def _add_file(archive: tarfile.TarFile, name: str, size: int, data: IO[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime, entry.mode, entry.size = FIXED_TIME, 0o644, size
    archive.addfile(entry, data)
