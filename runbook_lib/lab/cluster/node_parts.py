"""containerd, the kubelet, kube-proxy and KWOK: how each is configured and started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runbook_lib.errors import LabError
from runbook_lib.files import write_whole
from runbook_lib.lab.cluster.pki import NODE_NAME
from runbook_lib.lab.cluster.site import Site
from runbook_lib.lab.cluster.system import cni_plugins, proxy_mode
from runbook_lib.serving.supervise import ServerSpec

__all__ = ["containerd", "kube_proxy", "kubelet", "kwok"]

SOCKET = "/run/containerd/containerd.sock"
CONTAINERD = """\
version = 2
root = "{root}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Where root may not lower its own score, a container may not either.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{networks}"
"""
# Nobody answers there: a name that no cluster knows is refused at once.
RESOLVER = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"


def containerd(site: Site) -> ServerSpec:
    """The container runtime with one point-to-point link a pod: every packet is routed.

    Its images are kept when the cluster is down; its sockets lie in the node's own `/run`.
    """
    networks = site.config("cni")
    text = CONTAINERD.format(
        root=site.host.folder / "containerd",
        socket=SOCKET,
        pause=site.images.pause,
        cni=cni_plugins(),
        networks=networks,
    )
    write_whole(site.config("containerd.toml"), text)
    ranges = {"type": "host-local", "ranges": [[{"subnet": site.host.network.pods}]]}
    link = {"type": "ptp", "ipam": {**ranges, "routes": [{"dst": "0.0.0.0/0"}]}}
    _write(
        networks / "10-runbook.conflist",
        {"cniVersion": "1.0.0", "name": "runbook", "plugins": [link]},
    )
    return site.spec("containerd", ["containerd", "--config", str(site.config("containerd.toml"))])


def kubelet(site: Site) -> ServerSpec:
    """The kubelet of the one real node."""
    write_whole(site.config("resolv.conf"), RESOLVER)
    pki = site.pki
    said = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": site.host.network.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(pki.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(pki.certificate("kubelet-server")),
        "tlsPrivateKeyFile": str(pki.key("kubelet-server")),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{site.host.cgroup}",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "resolvConf": str(site.config("resolv.conf")),
        "failCgroupV1": False,
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "serializeImagePulls": False,
        # The images are ours and few; a full disk is the host's matter.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
        },
        "nodeStatusUpdateFrequency": "4s",
        "healthzBindAddress": "127.0.0.1",
    }
    _write(site.config("kubelet.json"), said)
    argv = [
        str(site.built["kubernetes"].program("kubelet")),
        f"--config={site.config('kubelet.json')}",
        f"--kubeconfig={pki.kubeconfig('kubelet')}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={site.host.network.node}",
    ]
    return site.spec("kubelet", argv)


def kube_proxy(site: Site) -> ServerSpec:
    """kube-proxy: services answer for pods and, over the cable, for the host."""
    said = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": proxy_mode(site),
        "clientConnection": {"kubeconfig": str(site.pki.kubeconfig("kube-proxy"))},
        "clusterCIDR": site.host.network.pods,
        "hostnameOverride": NODE_NAME,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        # The host's limits of connections hold; a namespace can't set them.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }
    _write(site.config("kube-proxy.json"), said)
    program = str(site.built["kubernetes"].program("kube-proxy"))
    return site.spec("kube-proxy", [program, f"--config={site.config('kube-proxy.json')}"])


def kwok(site: Site) -> ServerSpec:
    """KWOK, which plays the kubelet of the pretended nodes with its own shipped stages."""
    stages = site.built["kwok"].kept("kustomize/stage/**/*.yaml")
    if not stages:
        raise LabError(
            "The build of KWOK has no stages.", fix=f"Remove {site.built['kwok'].folder}."
        )
    argv = [
        str(site.built["kwok"].program("kwok")),
        f"--kubeconfig={site.pki.kubeconfig('kwok')}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        "--node-lease-duration-seconds=40",
        "--server-address=127.0.0.1:10247",
        *(f"--config={stage}" for stage in stages),
    ]
    return site.spec("kwok", argv)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, json.dumps(value, indent=1))
