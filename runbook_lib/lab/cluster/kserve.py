"""The real KServe in the cluster: its types, its settings, its manager, its webhooks.

What is applied are the files of KServe's own module; changed are only the settings that name an
image or need an Istio or Knative that is not there, and where the webhooks answer.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook_lib.lab.cluster.api import Api
from runbook_lib.lab.cluster.parts import Part
from runbook_lib.lab.cluster.site import Site
from runbook_lib.serving.supervise import ServerSpec

__all__ = [
    "answers",
    "apply_types",
    "configure",
    "manager",
    "register",
    "settings_of",
    "types_ready",
]

NAMESPACE = "kserve"
WEBHOOK_PORT = 9443
TYPES = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ADMISSION = "/apis/admissionregistration.k8s.io/v1"


def apply_types(api: Api, part: Part) -> None:
    """Create KServe's types with their whole schemas, its namespace, and nothing that needs them."""
    for file in _types(part):
        api.create_file(TYPES, file)
    labels = {"control-plane": "kserve-controller-manager"}
    api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": labels}})


def types_ready(api: Api, part: Part) -> bool:
    """Whether every type is established: the manager ends at once while one isn't."""
    # serving.kserve.io_inferenceservices.yaml holds inferenceservices.serving.kserve.io
    wanted = {".".join(reversed(file.stem.split("_", 1))) for file in _types(part)}
    ready = {
        item["metadata"]["name"]
        for item in api.get(TYPES)["items"]
        for condition in item.get("status", {}).get("conditions") or ()
        if condition["type"] == "Established" and condition["status"] == "True"
    }
    return wanted <= ready


def _types(part: Part) -> list[Path]:
    """All but those of LLMInferenceService, which another program serves and which convert."""
    files = part.kept("config/crd/full/**/serving.kserve.io_*.yaml")
    return [file for file in files if "llmisvc" not in file.parts]


def settings_of(shipped: Mapping[str, str], image: str) -> dict[str, str]:
    """KServe's shipped settings for a cluster without Istio, Knative or a registry."""
    changed: dict[str, dict[str, object]] = {
        "deploy": {"defaultDeploymentMode": "Standard"},
        "ingress": {"disableIngressCreation": True, "disableIstioVirtualHost": True},
        "storageInitializer": {"image": image},
        "localModel": {"defaultJobImage": image},
    }
    kept = {name: text for name, text in shipped.items() if name != "_example"}
    for name, values in changed.items():
        kept[name] = json.dumps({**json.loads(shipped.get(name, "{}")), **values})
    return kept


def configure(api: Api, part: Part, image: str) -> None:
    """Create the settings; the manager reads them once, so they come before it."""
    (shipped,) = part.kept("config/configmap/inferenceservice.yaml")
    (document,) = _documents(shipped)
    settings = {
        "metadata": {"name": "inferenceservice-config", "namespace": NAMESPACE},
        "data": settings_of(document["data"], image),
    }
    api.create(f"/api/v1/namespaces/{NAMESPACE}/configmaps", settings)


def manager(site: Site) -> ServerSpec:
    """The controller with its webhooks."""
    own = site.host.folder / "tmp" / "kserve"
    serving = own / "k8s-webhook-server" / "serving-certs"  # the manager looks nowhere else
    serving.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(site.pki.certificate("webhook"), serving / "tls.crt")
    shutil.copyfile(site.pki.key("webhook"), serving / "tls.key")
    argv = [
        str(site.built["kserve"].program("kserve-manager")),
        "--metrics-addr=127.0.0.1:8080",
        "--health-probe-addr=127.0.0.1:8081",
        f"--webhook-port={WEBHOOK_PORT}",
        "--zap-log-level=info",
    ]
    variables = {
        "KUBECONFIG": str(site.pki.kubeconfig("kserve")),
        "POD_NAMESPACE": NAMESPACE,
        "TMPDIR": str(own),
    }
    return site.spec("kserve", argv, variables)


def answers(site: Site) -> bool:
    """Whether its webhooks can be called."""
    try:
        with socket.create_connection((site.host.network.node, WEBHOOK_PORT), timeout=1):
            return True
    except OSError:
        return False


def register(site: Site, api: Api, image: str) -> None:
    """Create the webhooks, which call the manager by its address, and the default storage container."""
    part = site.built["kserve"]
    authority = base64.b64encode(site.pki.certificate("ca").read_bytes()).decode("ascii")
    (webhooks,) = part.kept("config/webhook/manifests.yaml")
    for document in _documents(webhooks):
        path = f"{ADMISSION}/{document['kind'].lower()}s"
        api.create(path, _by_address(document, site.host.network.node, authority))
    (storage,) = part.kept("config/storagecontainers/default.yaml")
    (container,) = _documents(storage)
    container["spec"]["container"]["image"] = image
    api.create("/apis/serving.kserve.io/v1alpha1/clusterstoragecontainers", container)


def _by_address(document: dict[str, Any], address: str, authority: str) -> dict[str, Any]:
    for webhook in document["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {
            "url": f"https://{address}:{WEBHOOK_PORT}{path}",
            "caBundle": authority,
        }
    document["metadata"].pop("creationTimestamp", None)
    return document


def _documents(file: Path) -> list[dict[str, Any]]:
    from ruamel.yaml import YAML

    with file.open(encoding="utf-8") as handle:
        return [one for one in YAML(typ="safe", pure=True).load_all(handle) if one]
