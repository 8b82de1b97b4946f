"""The least rights that each page needs, as roles, and who gets them.

The roles stand in `roles/*.yaml`, each with the pages it is for, and can be applied as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.kube.client import Manifest

__all__ = ["PAGE_ROLES", "ROLES", "bindings", "role_manifests"]

FOLDER = Path(__file__).resolve().parent / "roles"
ROLES = ("read", "reach", "secret", "build", "deploy", "cluster", "cache")
PLACEHOLDER = "STORAGE-SECRET"
# `cache` stands in none: a profile that names a local_cache_group needs it beside `deploy`.
PAGE_ROLES: Mapping[str, tuple[str, ...]] = {
    "00_plan": ("read", "cluster"),
    "01_build_engine": ("read", "cluster", "secret", "build"),
    "02_model_repository": (),
    "03_deploy": ("read", "cluster", "secret", "deploy", "reach"),
    "04_benchmark": ("read", "cluster", "reach"),
    "05_tradeoffs": ("read", "cluster", "secret", "build", "deploy", "reach"),
    "06_troubleshoot": ("read", "cluster", "reach"),
}


@cache
def _shipped(name: str) -> Mapping[str, Any]:
    from ruamel.yaml import YAML

    said = YAML(typ="safe", pure=True).load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return dict(said)


def role_manifests(
    names: Sequence[str], namespace: str, *, storage_secret: str = ""
) -> list[Manifest]:
    """The named roles, for a namespace.

    Args:
        names: of `ROLES`.
        storage_secret: the one Secret that `secret` lets be read; without it that role is left out.
    """
    made = []
    for name in names:
        if name == "secret" and not storage_secret:
            continue
        role = dict(_shipped(name))
        about = dict(role["metadata"])
        if role["kind"] == "Role":
            about["namespace"] = namespace
        rules = [_named(rule, storage_secret) for rule in role["rules"]]
        made.append(role | {"metadata": about, "rules": rules})
    return made


def _named(rule: Mapping[str, Any], secret: str) -> dict[str, Any]:
    if rule.get("resourceNames") == [PLACEHOLDER]:
        return {**rule, "resourceNames": [secret]}
    return dict(rule)


def bindings(roles: Sequence[Manifest], namespace: str, service_account: str) -> list[Manifest]:
    """Give roles to a service account of the namespace."""
    subject = {"kind": "ServiceAccount", "name": service_account, "namespace": namespace}
    made = []
    for role in roles:
        name = f"{role['metadata']['name']}-{service_account}"
        about: dict[str, Any] = {"name": name, "namespace": namespace}
        if role["kind"] == "ClusterRole":
            about = {"name": f"{name}-{namespace}"}
        reference = {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": role["kind"],
            "name": role["metadata"]["name"],
        }
        made.append(
            {
                "apiVersion": role["apiVersion"],
                "kind": f"{role['kind']}Binding",
                "metadata": about,
                "roleRef": reference,
                "subjects": [subject],
            }
        )
    return made
