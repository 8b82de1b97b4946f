"""A cluster's objects by kind and name: read, list, apply, delete, and the logs of pods.

Objects are dictionaries, as in their YAML. A request that fails raises a RunbookError that says
what to do; `call` and `stream`, for who goes on after a failure, raise an `ApiError` instead.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from runbook_lib.kube.connect import Connection, open_connection
from runbook_lib.kube.errors import UNREACHABLE, ApiError, explain
from runbook_lib.kube.hangup import Hangup
from runbook_lib.kube.kinds import Resource, resource

__all__ = ["MANAGER", "Kube", "Manifest"]

Manifest: TypeAlias = dict[str, Any]
Query: TypeAlias = Mapping[str, str | int]

MANAGER = "runbook"
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
PAGE = 500
# An API server that is restarted answers again within seconds.
AWAY_SECONDS, AGAIN_SECONDS = 30.0, 0.5


class Kube:
    """One cluster, signed in. Safe to share between threads."""

    def __init__(self, connection: Connection) -> None:
        self._api, self.server, self.namespace = connection
        self._has_answered = False

    @classmethod
    def connect(cls, kubeconfig: str | Path | None = None, context: str | None = None) -> Kube:
        """By the kubeconfig given, else $KUBECONFIG, ~/.kube/config, or the pod we run in.

        Nothing is asked yet: the first request tells whether the server answers.

        Raises:
            PreflightError: there is no kubeconfig, or it can't be read.
        """
        return cls(open_connection(kubeconfig, context))

    def close(self) -> None:
        """Close idle connections; the object can still be used."""
        self._api.close()

    @cached_property
    def version(self) -> tuple[int, int]:
        """Kubernetes' major and minor version."""
        with self._told("tell its version"):
            said = self._call_again("GET", "/version")
        return int(said["major"]), int(said["minor"].rstrip("+"))

    def resource(self, kind: str) -> Resource:
        """Where a kind's objects lie: its paths for `call` and `stream`."""
        return resource(kind)

    def has(self, kind: str) -> bool:
        """Whether the cluster serves a kind, in the version we speak."""
        row = resource(kind)
        with self._told(f"say whether it has {row.plural}"):
            try:
                said = self._call_again("GET", row.root)
            except ApiError as error:
                if error.status == 404:
                    return False
                raise
        return any(one["name"] == row.plural for one in said.get("resources", ()))

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """One object; None when there is none of that name."""
        row = resource(kind)
        with self._told(f"read {kind} {name}"):
            try:
                return self._call_again("GET", row.path(self._in(row, namespace), name))
            except ApiError as error:
                if error.no_such_object:
                    return None
                raise

    def list(
        self, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Manifest]:
        """Every object of a kind in a namespace, by label and field selector."""
        row = resource(kind)
        found: list[Manifest] = []
        query: dict[str, str | int] = {"limit": PAGE}
        query |= {"labelSelector": labels} if labels else {}
        query |= {"fieldSelector": fields} if fields else {}
        with self._told(f"list {row.plural}"):
            while True:
                page = self._call_again("GET", row.path(self._in(row, namespace)), query)
                # An item of a list doesn't repeat what it is.
                same = {"apiVersion": row.api_version, "kind": kind}
                found += [same | item for item in page["items"]]
                if not (following := page["metadata"].get("continue")):
                    return found
                query["continue"] = following

    def apply(self, manifest: Manifest, *, dry_run: bool = False, force: bool = False) -> Manifest:
        """Make it so (server-side apply, as field manager `runbook`); the object that results.

        Raises:
            ServiceError: a field belongs to somebody else (named), or the server refuses it.
        """
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        with self._told(f"apply {kind} {name}"):
            return self.send_apply(manifest, dry_run=dry_run, force=force)

    def send_apply(self, manifest: Manifest, *, dry_run: bool, force: bool = False) -> Manifest:
        """`apply` that raises what the server said as an `ApiError`."""
        metadata = manifest["metadata"]
        row = resource(manifest["kind"])
        path = row.path(self._in(row, metadata.get("namespace")), metadata["name"])
        query: dict[str, str | int] = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        query |= {"dryRun": "All"} if dry_run else {}
        query |= {"force": "true"} if force else {}
        return self._call_again("PATCH", path, query, manifest, "application/apply-patch+yaml")

    def delete(self, kind: str, name: str, namespace: str | None = None) -> bool:
        """Delete one object, and in the background what it owns; False when there was none."""
        row = resource(kind)
        with self._told(f"delete {kind} {name}"):
            try:
                path = row.path(self._in(row, namespace), name)
                self._call_again("DELETE", path, {"propagationPolicy": "Background"})
            except ApiError as error:
                if error.no_such_object:
                    return False
                raise
        return True

    def logs(
        self,
        pod: str,
        namespace: str | None = None,
        *,
        container: str | None = None,
        previous: bool = False,
        tail: int | None = None,
    ) -> str:
        """What a container said so far; `previous`: the one before its last restart."""
        query = _log_query(container)
        query |= {"previous": "true"} if previous else {}
        query |= {} if tail is None else {"tailLines": tail}
        with self._told(f"read the log of pod {pod}"):
            answer = self._send("GET", self._log_path(pod, namespace), query)
        return answer.decode("utf-8", "replace")

    def follow_logs(
        self,
        pod: str,
        namespace: str | None = None,
        *,
        container: str | None = None,
        hangup: Hangup | None = None,
    ) -> Iterator[str]:
        """The lines of a container's log as they come, from its first, until it or `hangup` ends it.

        A connection that breaks, or is silent for long, is made again where it ended.
        """
        query = _log_query(container) | {"follow": "true", "timestamps": "true"}
        last, failures = "", 0
        while True:
            # A time has nanoseconds in the log and seconds in the question: some lines come twice.
            again = {"sinceTime": f"{last[:19]}Z"} if last else {}
            try:
                path = self._log_path(pod, namespace)
                for line in self.stream(path, query | again, hangup=hangup):
                    stamp, _, text = line.partition(" ")
                    failures = 0
                    if stamp > last:
                        last = stamp
                        yield text
            except ApiError as error:
                failures += 0 if error.reason == "Silent" else 1
                if hangup is not None and hangup.done:
                    return
                if error.status != UNREACHABLE or failures > 10:
                    raise explain(error, f"read the log of pod {pod}", self.server) from None
                _pause(failures)
            else:
                return

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Manifest:
        """One request and its JSON answer.

        Raises:
            ApiError: the server refused it, or did not answer.
        """
        answer: Manifest = json.loads(self._send(method, path, query, body, content_type))
        return answer

    def _call_again(self, *question: Any) -> Manifest:
        """`call`, repeated while a server that answered before is away; for what may be asked twice."""
        patience = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                answer = self.call(*question)
            except ApiError as error:
                known = self._has_answered and error.is_away
                if not known or time.monotonic() > patience:
                    raise
                time.sleep(AGAIN_SECONDS)
            else:
                self._has_answered = True
                return answer

    def stream(
        self, path: str, query: Query, *, silence: float = 60.0, hangup: Hangup | None = None
    ) -> Iterator[str]:
        """The lines of an answer that stays open, until the server or `hangup` ends it.

        Raises:
            ApiError: it was refused, broke off, or (reason `Silent`) said nothing for `silence`
                seconds.
        """
        import urllib3

        answer = self._open("GET", path, query, seconds=silence)
        line = hangup or Hangup()
        line.hold(answer)
        try:
            rest = b""
            for piece in answer.stream(65536, decode_content=True):
                if line.done:
                    return  # what a connection gives once it is hung up is no part of the answer
                *lines, rest = (rest + piece).split(b"\n")
                for text in lines:
                    yield text.decode("utf-8", "replace")
            if rest and not line.done:
                yield rest.decode("utf-8", "replace")
        except urllib3.exceptions.ReadTimeoutError as silent:
            raise ApiError(UNREACHABLE, "Silent", str(silent), {}) from None
        except (urllib3.exceptions.HTTPError, OSError) as broken:
            raise ApiError(UNREACHABLE, "Broken", str(broken), {}) from None
        finally:
            line.release(answer)
            answer.close()

    def websocket(self, path: str, query: Query) -> Any:
        """An open WebSocket to a path that upgrades, as `kubectl port-forward` uses it.

        Raises:
            ApiError: it was refused, or the server did not answer.
        """
        from kubernetes.stream.ws_client import create_websocket, get_websocket_url
        from websocket import WebSocketBadStatusException, WebSocketException

        _, url, headers, *_ = self._api.param_serialize(
            "GET", path, query_params=list(query.items()), auth_settings=["BearerToken"]
        )
        try:
            return create_websocket(self._api.configuration, get_websocket_url(url), headers)
        except WebSocketBadStatusException as refused:
            raise ApiError.from_body(refused.status_code, refused.resp_body or b"") from None
        except (WebSocketException, OSError) as broken:
            raise ApiError(UNREACHABLE, "Unreachable", str(broken), {}) from None

    def _send(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes:
        import urllib3

        try:
            answer = self._open(
                method, path, query, body, content_type=content_type, seconds=ANSWER_SECONDS
            )
            data: bytes = answer.data
        except (urllib3.exceptions.HTTPError, OSError) as broken:
            raise ApiError(UNREACHABLE, "Broken", str(broken), {}) from None
        return data

    def _open(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: Any = None,
        *,
        content_type: str = "application/json",
        seconds: float,
    ) -> Any:
        import urllib3
        from kubernetes.client import ApiException

        headers = {"Accept": "application/json, */*", "Content-Type": content_type}
        pairs = list((query or {}).items())
        request = self._api.param_serialize(
            method,
            path,
            query_params=pairs,
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._api.call_api(*request, _request_timeout=(CONNECT_SECONDS, seconds))
        except ApiException as failed:  # a TLS failure, which the client wraps
            raise ApiError(UNREACHABLE, "TLS", str(failed.reason), {}) from None
        except urllib3.exceptions.ReadTimeoutError as silent:
            raise ApiError(UNREACHABLE, "Silent", str(silent), {}) from None
        except (urllib3.exceptions.HTTPError, OSError) as broken:
            raise ApiError(UNREACHABLE, "Unreachable", str(broken), {}) from None
        if not 200 <= answer.status < 300:
            raise ApiError.from_body(answer.status, answer.read())
        return answer.response

    def _in(self, row: Resource, namespace: str | None) -> str | None:
        return (namespace or self.namespace) if row.namespaced else None

    def _log_path(self, pod: str, namespace: str | None) -> str:
        return f"{resource('Pod').path(namespace or self.namespace, pod)}/log"

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turn what the server said into an error for a reader."""
        try:
            yield
        except ApiError as error:
            raise explain(error, doing, self.server) from None


def _log_query(container: str | None) -> dict[str, str | int]:
    return {"container": container} if container else {}


def _pause(failures: int) -> None:
    time.sleep(min(5.0, 0.2 * failures))
