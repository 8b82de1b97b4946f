"""The cluster's certificates, made by openssl: one authority, each part's own key, kubeconfigs.

They live as long as the cluster runs, readable by root only.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import LabError
from runbook_lib.lab.cluster.network import Network

__all__ = ["NODE_NAME", "Pki", "kubeconfig", "make_pki"]

NODE_NAME = "runbook-node"
DAYS = "365"
CONFIG = "[req]\ndistinguished_name=name\nprompt=no\n[name]\nCN=unused\n"
# File name, subject: the clients that RBAC knows by name or group.
CLIENTS = {
    "admin": "/O=system:masters/CN=runbook-admin",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
    "kubelet": f"/O=system:nodes/CN=system:node:{NODE_NAME}",
    "kwok": "/O=system:masters/CN=kwok",
    "kserve": "/O=system:masters/CN=kserve-manager",
}


@dataclass(frozen=True)
class Pki:
    """A folder of certificates and keys, by name."""

    folder: Path

    def certificate(self, name: str) -> Path:
        """The certificate of that name."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        """Its private key."""
        return self.folder / f"{name}.key"

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig of a client."""
        return self.folder / f"{name}.kubeconfig"


def make_pki(folder: Path, network: Network) -> Pki:
    """Make what is missing; what is there is in use, and stays."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pki = Pki(folder)
    config = folder / "openssl.cnf"
    config.write_text(CONFIG, encoding="ascii")
    node = f"IP:{network.node},IP:127.0.0.1"
    service = f"IP:{network.api_service},DNS:kubernetes,DNS:kubernetes.default.svc"
    extra = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
    _make(pki, "ca", "/CN=runbook-cluster", extra, signed=False)
    for name, subject in CLIENTS.items():
        _make(pki, name, subject, ["extendedKeyUsage=clientAuth"])
        if not pki.kubeconfig(name).exists():
            text = kubeconfig(pki, name, f"https://{network.node}:6443")
            _write(pki.kubeconfig(name), text)
    servers = {
        "apiserver": f"{node},{service}",
        "kubelet-server": f"{node},DNS:{NODE_NAME}",
        "webhook": node,
    }
    for name, names in servers.items():
        extra = ["extendedKeyUsage=serverAuth", f"subjectAltName={names}"]
        _make(pki, name, f"/CN={name}", extra)
    _make(pki, "service-accounts", "/CN=service-accounts", [])
    return pki


def _make(
    pki: Pki, name: str, subject: str, extensions: Sequence[str], *, signed: bool = True
) -> None:
    if pki.certificate(name).exists():
        return
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-config", str(pki.folder / "openssl.cnf"), "-days", DAYS, "-subj", subject]
    argv += ["-keyout", str(pki.key(name)), "-out", str(pki.certificate(name))]
    if signed:
        argv += ["-CA", str(pki.certificate("ca")), "-CAkey", str(pki.key("ca"))]
        extensions = ["basicConstraints=CA:FALSE", *extensions]
    for extension in extensions:
        argv += ["-addext", extension]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(
            f"The certificate of {name} could not be made.",
            why=done.stderr.strip()[-400:],
            fix="The cluster needs openssl 3: apt-get install -y openssl",
        )


def kubeconfig(pki: Pki, name: str, server: str) -> str:
    """A kubeconfig with everything inside it: it can be copied."""

    def inside(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode("ascii")

    user = {
        "client-certificate-data": inside(pki.certificate(name)),
        "client-key-data": inside(pki.key(name)),
    }
    cluster = {"server": server, "certificate-authority-data": inside(pki.certificate("ca"))}
    said = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "runbook",
        "clusters": [{"name": "runbook", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "runbook", "context": {"cluster": "runbook", "user": name}}],
    }
    return json.dumps(said, indent=1)


def _write(path: Path, text: str) -> None:
    """For root only, from the first byte."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
