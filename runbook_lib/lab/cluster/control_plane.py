"""etcd, the API server, the controllers and the scheduler: how each is started."""

from __future__ import annotations

from runbook_lib.lab.cluster.site import Site
from runbook_lib.serving.supervise import ServerSpec

__all__ = ["apiserver", "controller_manager", "etcd", "scheduler"]


def etcd(site: Site) -> ServerSpec:
    """The store; it forgets everything with the cluster, so it need not wait for the disk."""
    argv = [
        str(site.built["etcd"].program("etcd")),
        "--name=runbook",
        f"--data-dir={site.host.folder / 'etcd'}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=runbook=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    return site.spec("etcd", argv)


def apiserver(site: Site) -> ServerSpec:
    """The API server, on the node's address: the host and the pods use the same one."""
    network, pki = site.host.network, site.pki
    argv = [
        str(site.built["kubernetes"].program("kube-apiserver")),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--bind-address={network.node}",
        f"--advertise-address={network.node}",
        "--secure-port=6443",
        f"--service-cluster-ip-range={network.services}",
        f"--tls-cert-file={pki.certificate('apiserver')}",
        f"--tls-private-key-file={pki.key('apiserver')}",
        f"--client-ca-file={pki.certificate('ca')}",
        f"--kubelet-client-certificate={pki.certificate('admin')}",
        f"--kubelet-client-key={pki.key('admin')}",
        f"--kubelet-certificate-authority={pki.certificate('ca')}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki.certificate('service-accounts')}",
        f"--service-account-signing-key-file={pki.key('service-accounts')}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--profiling=false",
    ]
    return site.spec("kube-apiserver", argv)


def controller_manager(site: Site) -> ServerSpec:
    """The controllers; they end at once while the first roles are missing, so the API server is ready."""
    pki = site.pki
    argv = [
        str(site.built["kubernetes"].program("kube-controller-manager")),
        *_as_client(site, "kube-controller-manager"),
        f"--service-account-private-key-file={pki.key('service-accounts')}",
        f"--root-ca-file={pki.certificate('ca')}",
        "--use-service-account-credentials=true",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]
    return site.spec("kube-controller-manager", argv)


def scheduler(site: Site) -> ServerSpec:
    """The scheduler."""
    argv = [
        str(site.built["kubernetes"].program("kube-scheduler")),
        *_as_client(site, "kube-scheduler"),
    ]
    return site.spec("kube-scheduler", argv)


def _as_client(site: Site, name: str) -> list[str]:
    config = site.pki.kubeconfig(name)
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    ]
