"""The prefix that a repository has in a bucket or container."""

from __future__ import annotations

import re

from runbook_lib.errors import RepositoryError

__all__ = ["beside_prefix", "prefix_of"]

# What Triton's own pattern for S3 paths takes; with another character it reads the host as a bucket.
PREFIX = re.compile(r"[0-9a-zA-Z._-]+(/[0-9a-zA-Z._-]+)*")


def prefix_of(uri: str, rest: str) -> str:
    """What stands behind the bucket in a URI, with one final slash.

    Raises:
        RepositoryError: there is nothing, or it has characters that Triton can't read.
    """
    prefix = re.sub("/+", "/", rest).strip("/")
    if not prefix:
        raise RepositoryError(
            f"{uri} names a whole bucket.",
            why="A repository has a prefix of its own, so that nothing else in the bucket is touched.",
            fix=f"Give a prefix, for example {uri.rstrip('/')}/triton/llama-7b/",
        )
    if not PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
        raise RepositoryError(
            f"{uri} has a prefix that Triton can't read.",
            why="Triton takes letters, digits, dots, hyphens and underscores between the slashes.",
            fix="Choose a prefix of those characters.",
        )
    return f"{prefix}/"


def beside_prefix(prefix: str) -> str:
    """Where a content waits that shall replace the one of a prefix.

    Neither below it, where Triton would take it for a model, nor beginning like it: KServe also
    downloads what does.
    """
    parent, _, name = prefix.rstrip("/").rpartition("/")
    return f"{parent}/.runbook-incoming/{name}/".lstrip("/")
