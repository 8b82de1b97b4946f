"""Which cluster is meant, and a signed-in connection to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runbook_lib.errors import PreflightError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

__all__ = ["Connection", "open_connection"]

# A mirror holds a stream for each kind; the client's five connections a CPU are too few for that.
POOL = 32
IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Connection(NamedTuple):
    """A connection, the server's address, and the namespace that its context names."""

    api: ApiClient
    server: str
    namespace: str


def open_connection(kubeconfig: str | Path | None, context: str | None) -> Connection:
    """By the kubeconfig given, else $KUBECONFIG, ~/.kube/config, or the pod we run in.

    Raises:
        PreflightError: there is none, or it can't be read.
    """
    # The client's own default is read when it is imported, and knows no later change of KUBECONFIG.
    home = Path.home() / ".kube" / "config"
    source = str(kubeconfig or os.environ.get("KUBECONFIG") or "")
    if not source and home.is_file():
        source = str(home)
    if source:
        return _by_file(source, context)
    if (IN_CLUSTER / "token").is_file():
        return _in_cluster()
    raise PreflightError(
        "No cluster is named: there is no kubeconfig.",
        why=f"KUBECONFIG is not set, {home} does not exist, and this is no pod of a cluster.",
        fix="Set KUBECONFIG to the file that your cluster's provider gives, "
        "or start the lab's cluster: runbook lab up --cluster",
    )


def _by_file(source: str, context: str | None) -> Connection:
    from kubernetes import client, config

    if not any(Path(part).is_file() for part in source.split(os.pathsep) if part):
        raise PreflightError(
            f"The kubeconfig {source} does not exist.", fix="Set KUBECONFIG to a file that does."
        )
    configuration = client.Configuration()
    try:
        contexts, _ = config.list_kube_config_contexts(source)
        known = {one["name"]: one["context"] for one in contexts}
        chosen = context or _current_context(source)
        if chosen in known:
            config.load_kube_config(source, chosen, configuration)
    except Exception as bad:  # the loader has no exception of its own for most of what can be wrong
        raise PreflightError(
            f"The kubeconfig {source} can't be used.",
            why=str(bad) or type(bad).__name__,
            fix="Try: kubectl config view --minify",
        ) from None
    if chosen not in known:
        raise PreflightError(
            f"The kubeconfig {source} has no context {chosen}.",
            why=f"It has {', '.join(sorted(known))}.",
            fix="Name one of these.",
        )
    return _open(configuration, known[chosen].get("namespace") or "default")


def _current_context(source: str) -> str:
    """Of several files the first that names one, as kubectl has it; the client would take the last."""
    from ruamel.yaml import YAML

    for part in filter(None, source.split(os.pathsep)):
        if (path := Path(part).expanduser()).is_file():
            said = YAML(typ="safe", pure=True).load(path)
            if current := said.get("current-context"):
                return str(current)
    raise KeyError("current-context")


def _in_cluster() -> Connection:
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        config.load_incluster_config(configuration)
        namespace = (IN_CLUSTER / "namespace").read_text(encoding="utf-8").strip()
    except (config.ConfigException, OSError) as bad:
        raise PreflightError(
            "The pod's own service account can't be used.",
            why=str(bad),
            fix="Mount it (automountServiceAccountToken: true), or set KUBECONFIG.",
        ) from None
    return _open(configuration, namespace)


def _open(configuration: object, namespace: str) -> Connection:
    from kubernetes import client

    assert isinstance(configuration, client.Configuration)
    # Whoever asks decides whether to ask again; a hidden retry would only make errors slow.
    configuration.retries = False
    configuration.connection_pool_maxsize = POOL
    return Connection(client.ApiClient(configuration), configuration.host, namespace)
