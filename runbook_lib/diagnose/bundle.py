"""Evidence as one file: collected here, masked, read offline by a colleague.

A bundle is a gzip'd tar of one JSON document; reading it unpacks nothing to the disk.
"""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import Finding
from runbook_lib.diagnose.evidence import Evidence, Line
from runbook_lib.errors import DiagnosisError
from runbook_lib.files import write_whole
from runbook_lib.masking import mask_secrets

__all__ = ["is_bundle", "read_bundle", "write_bundle"]

EVIDENCE, MANIFEST = "evidence.json", "MANIFEST.txt"
FORMAT = 1
LARGEST = 200_000_000
# What a file that is no bundle, or a cut one, ends in; the archive and the document each have theirs.
BAD_ARCHIVE = (OSError, EOFError, tarfile.TarError, zlib.error)
BAD_DOCUMENT = (LookupError, TypeError, ValueError, RecursionError)


def write_bundle(evidence: Evidence, path: Path) -> list[str]:
    """Write everything that was collected, masked; returns the manifest: what was taken."""
    manifest = [f"{name}: {said}" for name, said in evidence.sources.items()]
    document = {"format": FORMAT, **asdict(evidence)}
    document["named"] = [one.model_dump(mode="json") for one in evidence.named]
    text = mask_secrets(json.dumps(document, ensure_ascii=False, indent=1))
    holder = io.BytesIO()
    with tarfile.open(fileobj=holder, mode="w:gz") as tar:
        for name, content in ((MANIFEST, "\n".join(manifest) + "\n"), (EVIDENCE, text)):
            raw = content.encode("utf-8", "replace")
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            tar.addfile(entry, io.BytesIO(raw))
    write_whole(path, holder.getvalue())
    return manifest


def is_bundle(path: Path) -> bool:
    """Whether a file is meant as a bundle, by its name."""
    return path.name.endswith((".tgz", ".tar.gz"))


def read_bundle(path: Path) -> Evidence:
    """The evidence of a bundle.

    Raises:
        DiagnosisError: it is no bundle, or not whole.
    """
    try:
        with tarfile.open(path, mode="r:gz") as tar:
            member = tar.getmember(EVIDENCE)
            if member.size > LARGEST:
                raise ValueError(f"{EVIDENCE} is larger than {LARGEST:,} bytes")
            handle = tar.extractfile(member)
            document = json.loads(handle.read(LARGEST)) if handle else None
        return _evidence(document)
    except (
        OSError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        RecursionError,
        tarfile.TarError,
        zlib.error,
    ) as error:
        raise DiagnosisError(
            f"{path} is no bundle of evidence.",
            why=str(error) or type(error).__name__,
            fix="Make one with: runbook diagnose … --collect out.tgz",
        ) from error


def _evidence(document: Any) -> Evidence:
    if not isinstance(document, dict):
        raise TypeError("it holds no object")
    if document.pop("format") != FORMAT:
        raise ValueError("it is of another version of this package")
    return Evidence(
        lines=tuple(Line(**one) for one in document["lines"]),
        models=tuple(document["models"]),
        statistics=tuple(document["statistics"]),
        metrics=dict(document["metrics"]),
        sources=dict(document["sources"]),
        named=tuple(Finding.model_validate(one) for one in document["named"]),
    )
