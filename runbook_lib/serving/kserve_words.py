"""Which KServe answers, and which words that version knows.

The version is read from the schema of its InferenceService, which any signed-in user may see; the
newest field that the schema has tells the version at least. Only a CRD without a schema (KServe's
“minimal” ones) leads to the manager's image, which takes a right to read Deployments in `kserve`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook_lib.errors import PreflightError, RunbookError
from runbook_lib.kube.client import Kube
from runbook_lib.kube.errors import ApiError

__all__ = ["KNOWN", "KServe", "find_kserve", "from_image", "from_schema"]

Version = tuple[int, int]

KNOWN: Version = (0, 21)  # the newest version whose words were read
OLDEST: Version = (0, 15)
SCHEMA_SECONDS = 10.0

# A field of the InferenceService, and the version whose CRD was the first to have it. Compared over
# the CRDs of KServe 0.16.0, 0.17.0, 0.19.0 and 0.20.0; 0.18 and 0.19 added none, so that they read as 0.17.
MARKS: Sequence[tuple[tuple[str, ...], Version]] = (
    (("spec", "tracing"), (0, 21)),
    (("spec", "canary"), (0, 20)),
    (("spec", "predictor", "logger", "batchSize"), (0, 17)),
    (("spec", "predictor", "storageUris"), (0, 16)),
    (("spec", "predictor", "autoScaling"), (0, 15)),
)

# What a version was the first to know, from KServe's release notes and source at each tag.
FEATURES: Mapping[str, tuple[Version, str]] = {
    "standard": ((0, 16), "the deployment mode's word Standard (before: RawDeployment)"),
    "no_autoscaler": ((0, 16), "autoscalerClass none: the replicas are min_replicas"),
    "keda": ((0, 15), "autoscalerClass keda"),
    "local_model_cache": ((0, 15), "LocalModelCache"),
    "storage_uris": ((0, 16), "several storageUris"),
    "stop": ((0, 16), "the annotation serving.kserve.io/stop"),
    "canary": ((0, 20), "spec.canary in Standard mode"),
}


@dataclass(frozen=True)
class KServe:
    """A KServe by its version (at least), and what told it."""

    version: Version
    told_by: str

    def __str__(self) -> str:
        return f"{self.version[0]}.{self.version[1]}"

    def knows(self, feature: str) -> bool:
        """Whether it is new enough for one of `FEATURES`."""
        return self.version >= FEATURES[feature][0]

    def need(self, feature: str, setting: str) -> None:
        """Refuse a setting that this version has no word for.

        Raises:
            PreflightError: it is too old; the version that knows it is named.
        """
        since, words = FEATURES[feature]
        if not self.knows(feature):
            raise PreflightError(
                f"The profile's {setting} needs KServe {since[0]}.{since[1]}; the cluster has {self}.",
                why=f"{words} came with that version ({self.told_by}).",
                fix=f"Update KServe, or leave {setting} out.",
            )

    @property
    def deployment_mode(self) -> str:
        """The word for plain Deployments; an object that lives keeps the word that it has."""
        return "Standard" if self.knows("standard") else "RawDeployment"


def find_kserve(kube: Kube) -> KServe:
    """The KServe of a cluster.

    Raises:
        PreflightError: there is none, it is too old, or its version can't be read.
    """
    if not kube.has("InferenceService"):
        raise PreflightError(
            f"The cluster at {kube.server} has no KServe.",
            why="It does not serve serving.kserve.io/v1beta1.",
            fix="Install KServe 0.16 or later, choose another context, or run the profile in the lab.",
        )
    found = _by_schema(kube) or _by_image(kube)
    if found is None:
        raise PreflightError(
            "The version of the cluster's KServe can't be told.",
            why="Its CRD has no schema, and no deployment kserve/kserve-controller-manager "
            "with a version in its image is to be read.",
            fix="Install KServe's full CRDs, or let yourself read Deployments in the namespace kserve.",
        )
    if found.version < OLDEST:
        raise PreflightError(
            f"The cluster's KServe {found} is too old.",
            why=f"What is deployed here was tried with {OLDEST[0]}.{OLDEST[1]} and later.",
            fix="Update KServe.",
        )
    return found


def _by_schema(kube: Kube) -> KServe | None:
    """An API server that has just started serves a CRD before it has put its schema together."""
    deadline = time.monotonic() + SCHEMA_SECONDS
    while True:
        try:
            said = kube.call("GET", "/openapi/v3/apis/serving.kserve.io/v1beta1")
        except ApiError as error:
            if error.status not in {404, 503}:
                return None
            said = {}
        if (schema := _schema(said)) is not None or time.monotonic() > deadline:
            return from_schema(schema or {})
        time.sleep(0.5)


def _schema(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    schemas: Mapping[str, Mapping[str, Any]] = document.get("components", {}).get("schemas", {})
    for schema in schemas.values():
        kinds = schema.get("x-kubernetes-group-version-kind", ())
        if any(one.get("kind") == "InferenceService" for one in kinds):
            return schema
    return None


def from_schema(schema: Mapping[str, Any]) -> KServe | None:
    """From the OpenAPI schema of its InferenceService; None when that has no fields to go by."""
    for path, version in MARKS:
        if _has(schema, path):
            return KServe(version, f"its InferenceService has {'.'.join(path)}")
    return None


def _has(schema: Mapping[str, Any], path: Sequence[str]) -> bool:
    here: Any = schema
    for word in path:
        # A schema with a text of its own stands in a list of one.
        inner = here if "properties" in here else here.get("allOf", [here])[0]
        here = inner.get("properties", {}).get(word)
        if here is None:
            return False
    return True


def _by_image(kube: Kube) -> KServe | None:
    try:
        manager = kube.get("Deployment", "kserve-controller-manager", "kserve")
    except RunbookError:
        return None
    containers = manager["spec"]["template"]["spec"]["containers"] if manager else ()
    for one in containers:
        if found := from_image(one["image"]):
            return found
    return None


def from_image(image: str) -> KServe | None:
    """From the manager's image, `kserve/kserve-controller:v0.17.0`; None when it names no version."""
    seen = re.search(r"kserve-controller:v(\d+)\.(\d+)\.", image)
    return KServe((int(seen[1]), int(seen[2])), f"its manager's image is {image}") if seen else None
