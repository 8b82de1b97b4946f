"""The files of a folder as a store shall hold them, each with its digest.

Object stores know no empty folders, and KServe's downloader passes over files without bytes: where
a folder would be lost by that, a placeholder is stored with it.

A digest that was found once is found again by the file's size, times and number, as git does it;
whoever must be sure (`verify`) reads every byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from runbook_lib.artifacts import StoredFile
from runbook_lib.errors import RepositoryError
from runbook_lib.files import sha256_of, write_whole
from runbook_lib.places import cache_dir
from runbook_lib.repository.bodies import Body, FilePart, Given
from runbook_lib.repository.manifest import LOCK, MANIFEST
from runbook_lib.repository.store_retry import in_parallel

__all__ = ["PLACEHOLDER", "Tree", "read_tree"]

PLACEHOLDER = ".runbook-placeholder"
PLACEHOLDER_TEXT = b"Keeps this folder: object stores have no empty ones.\n"
# A file that was written this lately may be written again without its times telling.
RACY_NS = 2_000_000_000
# Less than this is read again as fast as it is looked up.
WORTH_BYTES = 16_000_000
# Of Windows' kind of path, or of none: stores and Triton read them in different ways.
UNFIT = {"\\", "\x7f", *map(chr, range(32))}
Stamp = tuple[int, int, int, int]  # size, times of content and of status in ns, number


class Tree:
    """A folder's files.

    Attributes:
        folder: the folder.
        files: each file with digest and size, ordered by path; placeholders among them.
    """

    def __init__(
        self, folder: Path, files: tuple[StoredFile, ...], stamps: dict[str, Stamp]
    ) -> None:
        self.folder = folder
        self.files = files
        self.stamps = stamps

    def body(self, file: StoredFile) -> Body:
        """All of a file, to be sent."""
        if file.path not in self.stamps:
            return Given(PLACEHOLDER_TEXT)
        return FilePart(self.folder / file.path, 0, file.size, file.sha256)

    def has_changed(self, file: StoredFile) -> bool:
        """Whether a file was written since its digest was found."""
        stamp = self.stamps.get(file.path)
        return stamp is not None and stamp != _stamp((self.folder / file.path).stat())


def read_tree(folder: Path, *, sure: bool = False) -> Tree:
    """Every file below a folder as a store shall hold it.

    Args:
        folder: the folder.
        sure: read every byte, also of files that seem unchanged.

    Raises:
        RepositoryError: the folder is none or empty, or holds what no store can: links, devices,
            names that are no text; all of them told at once.
    """
    if not folder.is_dir():
        raise RepositoryError(
            f"{folder} is not a folder.", fix="Give the folder of a model repository."
        )
    stamps, lost = _walk(folder)
    if not stamps:
        raise RepositoryError(f"{folder} holds no files.", fix="Lay out the repository first.")
    known = {} if sure else _remembered(folder)
    began = time.time_ns()
    digests = {name: known.pop(_line(name, stamp), "") for name, stamp in stamps.items()}
    unknown = [name for name, digest in digests.items() if not digest]
    digests |= in_parallel(partial(_read_digest, folder, name) for name in unknown)
    if unknown or known:
        _remember(folder, stamps, digests, began)
    files = [
        StoredFile(path=name, sha256=digests[name], size=stamp[0]) for name, stamp in stamps.items()
    ]
    text = PLACEHOLDER_TEXT
    digest = hashlib.sha256(text).hexdigest()
    files += [
        StoredFile(path=f"{name}/{PLACEHOLDER}", sha256=digest, size=len(text)) for name in lost
    ]
    return Tree(folder, tuple(sorted(files, key=lambda one: one.path)), stamps)


def _read_digest(folder: Path, name: str) -> tuple[str, str]:
    try:
        return name, sha256_of(folder / name)
    except OSError as error:
        raise RepositoryError(f"{folder / name} could not be read.", why=str(error)) from error


def _stamp(stat: os.stat_result) -> Stamp:
    return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)


def _walk(folder: Path) -> tuple[dict[str, Stamp], list[str]]:
    """Each file's stamp by its path, and the folders that a store would lose."""
    found: dict[str, Stamp] = {}
    wrong: list[str] = []
    kept: set[str] = set()
    folders: list[str] = []
    for entry, path in _entries(folder, ""):
        if problem := _problem(entry, path):
            wrong.append(problem)
        elif entry.is_dir():
            folders.append(path)
        else:
            found[path] = _stamp(entry.stat())
            if found[path][0]:
                kept.update(_parents(path))
    if wrong:
        raise RepositoryError(
            f"{folder} holds what a store can't: {wrong[0]}.",
            why="; ".join(wrong[1:20]),
            fix="Copy a link's file itself (cp -rL), and rename or remove the others.",
        )
    lost = [path for path in folders if path not in kept]
    inner = {parent for path in lost for parent in _parents(path)}
    return dict(sorted(found.items())), [path for path in lost if path not in inner]


def _entries(folder: Path, above: str) -> Iterator[tuple[os.DirEntry[str], str]]:
    with os.scandir(folder) as inside:
        entries = list(inside)
    for entry in entries:
        path = f"{above}{entry.name}"
        yield entry, path
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(Path(entry.path), f"{path}/")


def _parents(path: str) -> Iterator[str]:
    while (path := path.rpartition("/")[0]) != "":
        yield path


def _problem(entry: os.DirEntry[str], path: str) -> str:
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    if shown != path:
        return f"the name {shown} is not UTF-8"
    if UNFIT & set(entry.name):
        return f"the name {path!r} has a character that stores read in different ways"
    if entry.is_symlink():
        return f"{path} is a symbolic link"
    if not entry.is_dir() and not entry.is_file():
        return f"{path} is no regular file"
    if path in {MANIFEST, LOCK}:
        return f"{path} stands in the way of what a push writes"
    return ""


def _memory(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return cache_dir() / "digests" / f"{name}.json"


def _line(name: str, stamp: Stamp) -> str:
    return f"{name}\0{stamp}"


def _remembered(folder: Path) -> dict[str, str]:
    """The digest of each file that was seen, by its name and stamp."""
    try:
        rows = json.loads(_memory(folder).read_bytes())
        return {str(line): str(digest) for line, digest in rows.items()}
    except (OSError, ValueError, AttributeError):
        return {}  # what can be found again


def _remember(folder: Path, stamps: dict[str, Stamp], digests: dict[str, str], began: int) -> None:
    if sum(stamp[0] for stamp in stamps.values()) < WORTH_BYTES:
        return
    rows = {
        _line(name, stamp): digests[name]
        for name, stamp in stamps.items()
        if max(stamp[1], stamp[2]) < began - RACY_NS
    }
    write_whole(_memory(folder), json.dumps(rows))
