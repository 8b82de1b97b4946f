"""Start a cluster's parts in their order, each when what it needs answers.

Every step may be repeated: what lives is left alone, what is there is not made again. So the same
call starts a cluster and heals one that lost a part.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from runbook_lib.errors import LabError, ServiceError
from runbook_lib.lab.cluster import control_plane, forward, kserve, node_parts, nodes
from runbook_lib.lab.cluster.host import PLACES, Host, inner, machine_lock, prepare, read_host
from runbook_lib.lab.cluster.images import Images
from runbook_lib.lab.cluster.network import cable, choose_network, taken_blocks
from runbook_lib.lab.cluster.parts import Part
from runbook_lib.lab.cluster.pki import make_pki
from runbook_lib.lab.cluster.site import Site, joined, python_environment
from runbook_lib.serving.supervise import (
    Owner,
    Running,
    ServerSpec,
    find,
    start,
    stop,
    wait_healthy,
)

__all__ = ["PARTS", "start_cluster", "start_part", "start_types"]

SPECS: Mapping[str, Callable[[Site], ServerSpec]] = {
    "etcd": control_plane.etcd,
    "containerd": node_parts.containerd,
    "kube-apiserver": control_plane.apiserver,
    "kube-controller-manager": control_plane.controller_manager,
    "kube-scheduler": control_plane.scheduler,
    "kubelet": node_parts.kubelet,
    "kube-proxy": node_parts.kube_proxy,
    "kwok": node_parts.kwok,
    "kserve": kserve.manager,
}
PARTS = ("node", "object-store", *SPECS)
CTR = ["ctr", "--address", "/run/containerd/containerd.sock", "--namespace", "k8s.io"]


def start_cluster(
    folder: Path,
    owner: Owner | None,
    built: Mapping[str, Part],
    images: Images,
    *,
    object_store: str,
    on_line: Callable[[str], None],
) -> Site:
    """Start what doesn't live, and wait until the node and KServe are ready.

    Raises:
        LabError: a part did not start; in its own words.
    """
    on_line("Starting the node's namespaces")
    site = _open_site(folder, owner, built, images)
    host, api = site.host, site.api
    on_line("Starting etcd, containerd and the API server")
    _start_object_store(site, owner, object_store)
    containerd = _running(site, owner, "containerd")
    for name in ("etcd", "kube-apiserver"):  # they start while the images are loaded
        _running(site, owner, name)
    _wait(containerd, lambda: _ctr(site, "version").returncode == 0, 30)
    _import_images(site, on_line)
    on_line("Waiting for the API server")
    apiserver = _ready_apiserver(site, owner)
    on_line("Starting the controllers, the kubelet and KServe")
    seen = nodes.heartbeat(api)
    fresh = find(host.parts, "kubelet") is None
    for name in ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kwok"):
        _running(site, owner, name)
    kserve.apply_types(api, built["kserve"])
    nodes.create_pretended(api)
    _wait(apiserver, lambda: kserve.types_ready(api, built["kserve"]), 60)
    kserve.configure(api, built["kserve"], images.storage_initializer)
    _wait(_running(site, owner, "kserve"), lambda: kserve.answers(site), 60)
    kserve.register(site, api, images.storage_initializer)
    on_line("Waiting for the node")
    kubelet = _running(site, owner, "kubelet")
    _wait(kubelet, lambda: nodes.heartbeat(api) not in {"", seen if fresh else ""}, 90)
    nodes.pretend_gpus(api)
    for name in PARTS:
        if (one := find(host.parts, name)) is None or not _alive(one):
            raise LabError(
                f"{name} ended while the cluster started.", fix=f"Read {host.parts / name}.log"
            )
    return site


def start_types(
    folder: Path, owner: Owner | None, built: Mapping[str, Part], images: Images
) -> Site:
    """Start nothing but an API server that knows KServe's types.

    Raises:
        LabError: it did not start; in its own words.
    """
    site = _open_site(folder, owner, built, images)
    apiserver = _ready_apiserver(site, owner)
    kserve.apply_types(site.api, built["kserve"])
    _wait(apiserver, lambda: kserve.types_ready(site.api, built["kserve"]), 60)
    return site


def _open_site(
    folder: Path, owner: Owner | None, built: Mapping[str, Part], images: Images
) -> Site:
    with machine_lock():
        host = read_host(folder) or prepare(folder, choose_network(taken_blocks()))
        holder = _start_node(host, owner)
    pki = make_pki(folder / "pki", host.network)
    return Site(host, pki, built, images, holder.server.pid)


def _ready_apiserver(site: Site, owner: Owner | None) -> Running:
    etcd = _running(site, owner, "etcd")
    apiserver = _running(site, owner, "kube-apiserver")
    _wait(apiserver, lambda: _alive(etcd) and site.api.ready(), 60)
    return apiserver


def start_part(site: Site, owner: Owner | None, name: str) -> None:
    """Start one part of a running cluster, and wait until it answers."""
    api = site.api
    seen = nodes.heartbeat(api) if name == "kubelet" else ""
    one = _running(site, owner, name)
    answers: dict[str, Callable[[], bool]] = {
        "etcd": api.ready,
        "containerd": lambda: _ctr(site, "version").returncode == 0,
        "kube-apiserver": api.ready,
        "kubelet": lambda: nodes.heartbeat(api) not in {"", seen},
        "kserve": lambda: kserve.answers(site),
    }
    _wait(one, answers.get(name, lambda: True), 90)
    if name == "kubelet":
        nodes.pretend_gpus(api)


def _running(site: Site, owner: Owner | None, name: str) -> Running:
    """The part of that name: the living one, or a new one."""
    known = find(site.host.parts, name)
    if known is not None and known.alive():
        return known
    if known is not None:
        stop(known)
    return _start(SPECS[name](site), site.host, owner)


def _start(spec: ServerSpec, host: Host, owner: Owner | None) -> Running:
    try:
        return start(spec, host.parts, owner)
    except ServiceError as error:
        raise LabError(error.what, why=error.why, fix=error.fix) from None


def _alive(one: Running) -> bool:
    if one.alive():
        return True
    raise LabError(f"{one.name} ended while the cluster started.", fix=f"Read {one.log}")


def _wait(one: Running, healthy: Callable[[], bool], seconds: float) -> None:
    try:
        wait_healthy(one, healthy, timeout=seconds, what=one.name)
    except ServiceError as error:
        raise LabError(error.what, why=error.why, fix=error.fix) from None


def _start_node(host: Host, owner: Owner | None) -> Running:
    """The holder of the namespaces, with the cable laid and its own places mounted."""
    known = find(host.parts, "node")
    if known is not None:
        return known
    spec = ServerSpec(
        name="node",
        argv=joined(
            host,
            [
                *("unshare", "--net", "--mount", "--propagation", "slave", "--"),
                *(sys.executable, "-m", "runbook_lib.lab.cluster.hold", str(host.folder)),
            ],
        ),
        env=python_environment(),
        cwd=host.folder,
        stop_seconds=40,  # it sweeps the whole node
    )
    one = _start(spec, host, owner)
    own = Path("/proc/self/ns/net").readlink()
    _wait(one, lambda: b"holding" in one.log.read_bytes() and _namespace(one) != own, 30)
    outside, inside = cable(host.link, host.network, one.server.pid)
    mounts = [["mount", "--bind", str(inner(host, place)), place] for place in PLACES]
    entering = ["nsenter", "--target", str(one.server.pid), "--net", "--mount", "--"]
    for argv in [*outside, *([*entering, *step] for step in [*inside, *mounts])]:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(
                "The node's network could not be made.",
                why=f"{' '.join(argv)}: {done.stderr.strip()}",
                fix="The kernel must allow network namespaces and veth; then runbook lab down, and again.",
            )
    return one


def _namespace(one: Running) -> Path | None:
    try:
        return Path(f"/proc/{one.server.pid}/ns/net").readlink()
    except OSError:
        return None


def _start_object_store(site: Site, owner: Owner | None, target: str) -> None:
    """The way from the node's address to the lab's object store, laid anew when that moved."""
    known = find(site.host.parts, "object-store")
    if known is not None and known.alive() and known.facts["target"] == target:
        return
    if known is not None:
        stop(known)
    program = [sys.executable, "-I", "-S", str(forward.__file__)]
    place = [f"/proc/{site.holder}/ns/net", site.host.network.node, "9000", *target.split(":")]
    spec = ServerSpec(
        name="object-store",
        argv=joined(site.host, [*program, *place]),
        env=python_environment(),
        cwd=site.host.folder,
        facts={"target": target},
        stop_seconds=1,
    )
    _start(spec, site.host, owner)


def _ctr(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        site.enter([*CTR, *arguments]), capture_output=True, text=True, check=False
    )


def _import_images(site: Site, on_line: Callable[[str], None]) -> None:
    """Load the images where they are not there yet; those of older versions go."""
    mark = site.host.folder / "containerd" / f"imported-{site.images.digest}"
    names = _ctr(site, "images", "list", "--quiet").stdout.split()
    wanted = {site.images.triton, site.images.storage_initializer, site.images.pause}
    if mark.exists() and wanted <= set(names):
        return
    on_line(
        f"Loading the images into containerd ({site.images.archive.stat().st_size / 1e6:.0f} MB)"
    )
    old = [name for name in names if name.startswith("runbook.local/") and name not in wanted]
    if old:
        _ctr(site, "images", "remove", *old)
    done = _ctr(site, "images", "import", str(site.images.archive))
    if done.returncode != 0:
        raise LabError(
            "The images could not be loaded into containerd.",
            why=done.stderr.strip()[-600:],
            fix="Check disk space; then run the same command again.",
        )
    mark.touch()
