"""What applying manifests would change, shown before, and then all of it or nothing.

Three states meet: what lives, what the server would make of the manifest (its own dry run, with
defaults and webhooks), and which fields belong to us. The server merges the three; here the result
is compared with what lives, so that a field we wrote once and no longer write is shown as removed.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runbook_lib.changes import Change
from runbook_lib.errors import ServiceError
from runbook_lib.kube.client import Kube, Manifest
from runbook_lib.kube.errors import ApiError, explain
from runbook_lib.kube.text import to_yaml

__all__ = ["Difference", "apply_all", "changes_of", "compare", "differences_of"]

NOISE = {"managedFields", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink"}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
HIDDEN, HIDDEN_CHANGE = "(hidden)", "(hidden, another value)"
MOST_FIELDS = 6


@dataclass(frozen=True)
class Difference:
    """What applying one manifest would do.

    `fields` are the paths that change, `text` a unified diff, `conflicts` the fields of others that
    it would take: (path, owner).
    """

    kind: str
    name: str
    namespace: str
    verb: Literal["create", "change", "keep"]
    fields: tuple[str, ...]
    text: str
    conflicts: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {where}"

    def change(self) -> Change | None:
        """A line of a plan; None when nothing would change."""
        if self.conflicts:
            owners = "; ".join(f"{field} belongs to {owner}" for field, owner in self.conflicts)
            return Change("take over", str(self), f"refused unless forced: {owners}")
        if self.verb == "keep":
            return None
        shown = ", ".join(self.fields[:MOST_FIELDS])
        rest = len(self.fields) - MOST_FIELDS
        more = f" and {rest} more" if rest > 0 else ""
        return Change(self.verb, str(self), "" if self.verb == "create" else shown + more)


def changes_of(kube: Kube, manifests: Sequence[Manifest]) -> list[Change]:
    """The plan of `apply_all`: what it would create or change; empty when all is as it should be.

    Raises:
        RunbookError: the server would refuse one; nothing was changed.
    """
    return [
        change for one in differences_of(kube, manifests) if (change := one.change()) is not None
    ]


def differences_of(kube: Kube, manifests: Sequence[Manifest]) -> list[Difference]:
    """What applying each manifest would do, by the server's own dry run; changes nothing.

    Raises:
        RunbookError: the server would refuse one.
    """
    return [_difference(kube, manifest) for manifest in manifests]


def apply_all(
    kube: Kube, manifests: Sequence[Manifest], *, force: bool = False
) -> list[Difference]:
    """Apply the manifests in their order, after a dry run of all of them.

    Args:
        force: take over fields that belong to others.

    Returns:
        What was done with each.

    Raises:
        ServiceError: a field belongs to somebody else, or the server refuses one; as far as the
            dry run can tell this comes before anything is changed.
    """
    found = differences_of(kube, manifests)
    if (taken := [one for one in found if one.conflicts]) and not force:
        raise ServiceError(
            "Somebody else manages what we would change; nothing was applied.",
            why="\n".join(
                f"{one}: {field} belongs to {owner}"
                for one in taken
                for field, owner in one.conflicts
            ),
            fix="Leave those fields to their owner, or take them over by forcing the change.",
        )
    # Also what is as it should be: so that its fields are ours from now on, and go when we drop them.
    for manifest in manifests:
        kube.apply(manifest, force=force)
    return found


def _difference(kube: Kube, manifest: Manifest) -> Difference:
    kind, metadata = manifest["kind"], manifest["metadata"]
    live = kube.get(kind, metadata["name"], metadata.get("namespace"))
    conflicts: tuple[tuple[str, str], ...] = ()
    try:
        try:
            result = kube.send_apply(manifest, dry_run=True)
        except ApiError as error:
            conflicts = tuple(error.conflicts())
            if not conflicts:
                raise
            result = kube.send_apply(manifest, dry_run=True, force=True)
    except ApiError as error:
        raise explain(error, f"apply {kind} {metadata['name']}", kube.server) from None
    return compare(manifest, live, result, conflicts)


def compare(
    manifest: Manifest,
    live: Manifest | None,
    result: Manifest,
    conflicts: tuple[tuple[str, str], ...] = (),
) -> Difference:
    """What lives against what would; a new object is shown as it is written, without defaults."""
    before = _plain(live) if live else {}
    after = _plain(result if live else manifest)
    if manifest["kind"] == "Secret":
        before, after = _masked(before, before), _masked(after, before)
    fields = tuple(_changed(before, after)) if live else ()
    text = "".join(
        difflib.unified_diff(
            to_yaml([before]).splitlines(keepends=True) if live else [],
            to_yaml([after]).splitlines(keepends=True),
            "live",
            "applied",
        )
    )
    return Difference(
        kind=manifest["kind"],
        name=manifest["metadata"]["name"],
        namespace=manifest["metadata"].get("namespace", ""),
        verb="create" if not live else "change" if fields else "keep",
        fields=fields,
        text=text if fields or not live else "",
        conflicts=conflicts,
    )


def _plain(manifest: Manifest) -> Manifest:
    """Without what the server keeps for itself."""
    made = {key: value for key, value in copy.deepcopy(manifest).items() if key != "status"}
    metadata = {key: text for key, text in made["metadata"].items() if key not in NOISE}
    if LAST_APPLIED in metadata.get("annotations", {}):
        del metadata["annotations"][LAST_APPLIED]
    return made | {"metadata": metadata}


def _masked(secret: Manifest, before: Manifest) -> Manifest:
    """A Secret whose values say only whether they are those of before."""
    made = dict(secret)
    for part in ("data", "stringData"):
        if part in secret:
            known = before.get(part, {})
            made[part] = {
                key: HIDDEN if not known or known.get(key) == value else HIDDEN_CHANGE
                for key, value in secret[part].items()
            }
    return made


def _changed(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """The paths whose values differ; a list is compared place by place."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            inner = f"{path}.{key}".lstrip(".")
            yield from _changed(before.get(key), after.get(key), inner)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _changed(old, new, f"{path}[{place}]")
    elif before != after:
        yield path
