"""A local copy of some kinds of objects: listed once, then kept by watches.

A watch that ends is opened again where it ended, without a list; only when the server has
forgotten that point (410) are the objects listed anew. So the number of lists doesn't grow with
time, with what happens, or with a server that is restarted meanwhile.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from runbook_lib.kube.client import Kube, Manifest
from runbook_lib.kube.errors import UNREACHABLE, ApiError
from runbook_lib.kube.hangup import Hangup

__all__ = ["Mirror", "Scope", "list_once"]

# A watch is asked to end by itself after this time; one that breaks unnoticed is silent for longer.
WATCH_SECONDS = 30
SILENCE = WATCH_SECONDS + 15.0
LONGEST_PAUSE = 2.0
# The server is there and can't do it yet: it starts, is overloaded, or has no leader behind it.
NOT_YET = {UNREACHABLE, 408, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Scope:
    """What is mirrored: a kind, in one namespace or all, by label and field selector."""

    kind: str
    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    @property
    def query(self) -> dict[str, str | int]:
        """The selectors as the API takes them."""
        given = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {key: text for key, text in given.items() if text}


def list_once(
    kube: Kube, scopes: Sequence[Scope]
) -> tuple[dict[str, tuple[Manifest, ...]], dict[str, str]]:
    """Each scope's objects by one list call, whatever their number; and what is not read, and why.

    Raises:
        ApiError: the server does not answer, or refuses for another reason than a missing right.
    """
    found: dict[str, tuple[Manifest, ...]] = {}
    refused = {}
    for scope in scopes:
        try:
            found[scope.kind] = tuple(_listed(kube, scope)[0].values())
        except ApiError as error:
            if error.status != 403 and not error.no_such_kind:
                raise
            refused[scope.kind] = _why_unread(error)
    return found, refused


@dataclass
class _Point:
    """The resource version up to which a scope is known; empty: list it."""

    version: str = ""


class Mirror:
    """The objects of several scopes, kept current by one thread each while it is entered."""

    def __init__(self, kube: Kube, scopes: Sequence[Scope]) -> None:
        self._kube = kube
        self._scopes = tuple(scopes)
        self._objects: dict[Scope, dict[str, Manifest]] = {}
        self._refused: dict[Scope, str] = {}
        self._away: dict[Scope, str] = {}
        self._changed = threading.Condition()
        self._version = self._seen = 0
        self._stopped = threading.Event()
        self._hangup = Hangup()
        self.lists = 0

    def __enter__(self) -> Self:
        for scope in self._scopes:
            name = f"watch {scope.kind}"
            threading.Thread(target=self._keep, args=(scope,), name=name, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._hangup.hang_up()

    def objects(self) -> dict[str, tuple[Manifest, ...]]:
        """Kind → objects, as they are known now."""
        with self._changed:
            return {scope.kind: tuple(known.values()) for scope, known in self._objects.items()}

    @property
    def refused(self) -> dict[str, str]:
        """Kind → why it is not read: this user may not, or the cluster has no such kind."""
        with self._changed:
            return {one.kind: self._refused[one] for one in self._scopes if one in self._refused}

    @property
    def away(self) -> str:
        """Why the API server can't be asked at present; empty when it can."""
        with self._changed:
            return next(iter(self._away.values()), "")

    def wait_known(self, timeout: float) -> bool:
        """Wait until each scope was listed, refused, or the server turned out to be away."""

        def known() -> bool:
            return all(
                one in self._objects or one in self._refused or one in self._away
                for one in self._scopes
            )

        with self._changed:
            return self._changed.wait_for(known, timeout)

    def wait_change(self, timeout: float) -> bool:
        """Wait until something changed since the last time this returned; False after the time."""
        with self._changed:
            changed = self._changed.wait_for(lambda: self._version != self._seen, timeout)
            self._seen = self._version
            return changed

    def _keep(self, scope: Scope) -> None:
        """List, then watch, again and again, until it is stopped or refused for good."""
        point, failures = _Point(), 0
        while not self._stopped.wait(min(LONGEST_PAUSE, 0.1 * failures)):
            try:
                if failures:
                    # A watch on which nothing happens doesn't tell that the server is back.
                    self._kube.call("GET", "/version")
                    self._answered(scope)
                if not point.version:
                    objects, point.version = _listed(self._kube, scope)
                    self._took(scope, objects)
                failures = 0
                self._follow(scope, point)
            except ApiError as error:
                if error.status == 410:
                    point.version = ""
                elif error.reason == "Silent":
                    continue
                elif error.status in NOT_YET or scope in self._objects:
                    # What could be read once is refused only by a server that is still starting.
                    failures += 1
                    self._lost(scope, error)
                else:
                    self._give_up(scope, error)
                    return

    def _follow(self, scope: Scope, point: _Point) -> None:
        """Apply what a watch tells until it ends; `point` moves on with each event."""
        path = self._kube.resource(scope.kind).path(scope.namespace)
        query: dict[str, str | int] = scope.query | {
            "watch": "true",
            "resourceVersion": point.version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": WATCH_SECONDS,
        }
        for line in self._kube.stream(path, query, silence=SILENCE, hangup=self._hangup):
            event = json.loads(line)
            said = event["object"]
            if event["type"] == "ERROR":
                raise ApiError(said.get("code", 500), said.get("reason", ""), line, {})
            self._apply(scope, event["type"], said)
            point.version = said["metadata"]["resourceVersion"]
            if self._stopped.is_set():
                return

    def _apply(self, scope: Scope, what: str, manifest: Manifest) -> None:
        if what == "BOOKMARK":
            return
        uid = manifest["metadata"]["uid"]
        with self._changed:
            known = self._objects.setdefault(scope, {})
            if what == "DELETED":
                known.pop(uid, None)
            else:
                known[uid] = manifest | {"kind": scope.kind}
            self._tell()

    def _took(self, scope: Scope, objects: dict[str, Manifest]) -> None:
        with self._changed:
            self.lists += 1
            self._objects[scope] = objects
            self._away.pop(scope, None)
            self._tell()

    def _answered(self, scope: Scope) -> None:
        with self._changed:
            if self._away.pop(scope, None) is not None:
                self._tell()

    def _lost(self, scope: Scope, error: ApiError) -> None:
        with self._changed:
            self._away[scope] = f"the API server does not answer: {error.message}"
            self._tell()

    def _give_up(self, scope: Scope, error: ApiError) -> None:
        with self._changed:
            self._refused[scope] = _why_unread(error)
            self._tell()

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()


def _listed(kube: Kube, scope: Scope) -> tuple[dict[str, Manifest], str]:
    """A scope's objects by uid, and the point from which a watch goes on."""
    said: dict[str, Any] = kube.call(
        "GET", kube.resource(scope.kind).path(scope.namespace), scope.query
    )
    # An item of a list doesn't repeat what it is.
    objects = {one["metadata"]["uid"]: one | {"kind": scope.kind} for one in said["items"]}
    return objects, said["metadata"]["resourceVersion"]


def _why_unread(error: ApiError) -> str:
    return {403: "not permitted", 404: "no such kind here"}.get(error.status, error.message)
