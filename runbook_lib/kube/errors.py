"""What the API server said, as a value, and the error that a reader gets for it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.errors import PreflightError, RunbookError, ServiceError

__all__ = ["ApiError", "explain"]

UNREACHABLE = 0
ROLES = Path(__file__).resolve().parents[1] / "serving" / "roles"
_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'
    r'(?: in API group "(?P<group>[^"]*)")?'
    r'(?: in the namespace "(?P<namespace>[^"]+)"| at the cluster scope)?'
)
_OWNER = re.compile(r'conflict with "(?P<owner>[^"]+)"')


class ApiError(Exception):
    """A request that failed: for who acts on it; a reader gets `explain(error, …)`.

    `status` is HTTP's, or 0 when no answer came; `reason` is Kubernetes' own word.
    """

    def __init__(self, status: int, reason: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details

    @classmethod
    def from_body(cls, status: int, body: bytes) -> ApiError:
        """From an answer; a body that is no Status (a proxy's page) is kept as it came."""
        try:
            said = json.loads(body)
        except ValueError:
            said = None
        if not isinstance(said, dict) or said.get("kind") != "Status":
            return cls(status, "", body.decode("utf-8", "replace").strip()[:500], {})
        details = said.get("details") or {}
        return cls(status, said.get("reason") or "", said.get("message") or "", details)

    @property
    def is_away(self) -> bool:
        """Whether the server does not answer, or not yet: it may in a moment."""
        return self.status in {UNREACHABLE, 429, 503} and self.reason != "TLS"

    @property
    def no_such_object(self) -> bool:
        """The kind is known there, this object of it isn't."""
        return self.status == 404 and bool(self.details.get("name"))

    @property
    def no_such_kind(self) -> bool:
        """Nothing answers under the kind's path: its CRD is missing or serves another version."""
        return self.status == 404 and not self.details.get("name")

    def conflicts(self) -> list[tuple[str, str]]:
        """(field, its owner) of a server-side apply that met another manager's fields."""
        causes: Sequence[Mapping[str, Any]] = self.details.get("causes") or ()
        return [
            (str(one.get("field", "")), owner["owner"])
            for one in causes
            if one.get("reason") == "FieldManagerConflict"
            and (owner := _OWNER.search(str(one.get("message", ""))))
        ]


def explain(error: ApiError, doing: str, server: str) -> RunbookError:
    """The error for a reader. `doing` completes “The API server refused to …”."""
    if error.status == UNREACHABLE:
        return _no_answer(error, server)
    if error.status == 401:
        return PreflightError(
            f"The API server at {server} does not know who we are (401).",
            why="The kubeconfig's token or certificate is missing, expired, or of another cluster.",
            fix="Sign in again, then try: kubectl auth whoami",
        )
    if error.status == 403 and (seen := _FORBIDDEN.search(error.message)):
        return _forbidden(seen.groupdict(""))
    if error.status == 404:
        return _missing(error, doing)
    return _refused(error, doing)


def _missing(error: ApiError, doing: str) -> RunbookError:
    if error.no_such_kind:
        return PreflightError(
            f"The cluster can't {doing}: it has no such kind of object.",
            why=error.message or "The API server answers 404 under the kind's path.",
            fix="Install what brings it (KServe, KEDA or the Prometheus operator), in a version "
            "that serves it; `kubectl api-resources` lists what is there.",
        )
    if error.details.get("kind") == "namespaces":
        name = error.details.get("name")
        return PreflightError(
            f"The namespace {name} does not exist.", fix=f"kubectl create namespace {name}"
        )
    return ServiceError(
        f"Could not {doing}: it is not there.",
        why=error.message,
        fix="It may have ended or been replaced meanwhile: look at what is there now.",
    )


def _no_answer(error: ApiError, server: str) -> RunbookError:
    if "CERTIFICATE_VERIFY_FAILED" in error.message or "certificate" in error.message.lower():
        return PreflightError(
            f"The certificate of the API server at {server} is not trusted.",
            why=error.message,
            fix="The kubeconfig's certificate-authority must be that of this cluster, and the "
            "server's name one of the certificate's: fetch a fresh kubeconfig.",
        )
    return PreflightError(
        f"The API server at {server} does not answer.",
        why=error.message,
        fix="Is it the right context, and does the network (VPN) reach it? Try: kubectl cluster-info",
    )


def _forbidden(seen: Mapping[str, str]) -> RunbookError:
    where = f"in the namespace {seen['namespace']}" if seen["namespace"] else "in the whole cluster"
    if seen["user"] == "system:anonymous":
        return PreflightError(
            f"The API server took us for nobody: it lets no anonymous user {seen['verb']} "
            f"{seen['resource']} {where}.",
            why="The kubeconfig gives no credentials that work, or its exec plug-in failed.",
            fix="Sign in again, then try: kubectl auth whoami",
        )
    rule = (
        f'apiGroups: ["{seen["group"]}"], resources: [{seen["resource"]}], verbs: [{seen["verb"]}]'
    )
    return PreflightError(
        f"{seen['user']} may not {seen['verb']} {seen['resource']} {where}.",
        why="No Role or ClusterRole that is bound to it gives this right.",
        fix=f"Ask for a role with this rule: {{{rule}}}" + _shipped_role(seen),
    )


def _shipped_role(seen: Mapping[str, str]) -> str:
    """The shipped role that has a right, with what an administrator does to give it; else nothing."""
    from ruamel.yaml import YAML

    for path in sorted(ROLES.glob("*.yaml")):
        role = YAML(typ="safe", pure=True).load(path)
        if not any(
            seen["group"] in rule["apiGroups"]
            and seen["resource"] in rule["resources"]
            and seen["verb"] in rule["verbs"]
            for rule in role["rules"]
        ):
            continue
        kind, name = role["kind"].lower(), role["metadata"]["name"]
        inside = f" -n {seen['namespace']}" if kind == "role" else ""
        return (
            f"; {path.name} of the shipped roles has it: kubectl apply{inside} -f {path} && "
            f"kubectl create {kind}binding{inside} {name} --{kind}={name} --user={seen['user']}"
        )
    return ""


def _refused(error: ApiError, doing: str) -> RunbookError:
    if conflicts := error.conflicts():
        fields = "\n".join(f"{field} belongs to {owner}" for field, owner in conflicts)
        return ServiceError(
            f"Somebody else manages what we would change: could not {doing}.",
            why=fields,
            fix="Leave those fields to their owner, or take them over by forcing the change.",
        )
    if "failed calling webhook" in error.message:
        return ServiceError(
            f"An admission webhook did not answer: could not {doing}.",
            why=error.message,
            fix="See whether the controller behind it runs (for KServe: kubectl get pods -n kserve).",
            page="06_troubleshoot",
        )
    if "field not declared in schema" in error.message or "unknown field" in error.message:
        return PreflightError(
            f"The cluster's version does not know a field: could not {doing}.",
            why=error.message,
            fix="Leave out what sets this field, or update what brings the kind.",
        )
    causes = [
        f"{one.get('field', '')}: {one.get('message', '')}"
        for one in error.details.get("causes") or ()
    ]
    return ServiceError(
        f"The API server refused to {doing} ({error.status} {error.reason}".rstrip() + ").",
        why="\n".join(causes) or error.message,
        fix=_FIXES.get(error.status, "Read the reason above; the API server's log tells more."),
    )


_FIXES = {
    400: "The request or an admission webhook's rule: correct what the reason names.",
    403: "An admission rule (quota, pod security or a webhook) forbids it: correct what the "
    "reason names, or ask for it to be allowed.",
    409: "Another change came first: run the step again.",
    410: "The list was too old: run the step again.",
    422: "Correct the fields named above: the profile sets them.",
    429: "The API server is busy: try again in a minute.",
    503: "The API server is starting or overloaded: try again in a minute.",
}
