"""The test cluster of a lab: started, found, shown and ended as one.

Its control plane, node and KServe are real; pretended are its GPUs and the nodes that KWOK plays.
Everything of it lives in namespaces and control groups of its own, and below its folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import LabError, UsageError
from runbook_lib.files import locked, write_whole
from runbook_lib.lab.cluster import host as traces
from runbook_lib.lab.cluster.api import Api
from runbook_lib.lab.cluster.build import build, ensure_parts
from runbook_lib.lab.cluster.home import make_home
from runbook_lib.lab.cluster.images import Images, ensure_images, expected_images
from runbook_lib.lab.cluster.parts import default_kserve, kserve_part, kserve_types, parts
from runbook_lib.lab.cluster.pki import NODE_NAME, Pki
from runbook_lib.lab.cluster.site import Site
from runbook_lib.lab.cluster.start import PARTS, start_cluster, start_part, start_types
from runbook_lib.lab.cluster.system import check_system
from runbook_lib.lab.lab import Lab
from runbook_lib.lab.lab import current as current_lab
from runbook_lib.lab.s3 import keys_of
from runbook_lib.places import cache_dir
from runbook_lib.serving.supervise import find, listing, stop
from runbook_lib.serving.triton import S3Credentials

__all__ = [
    "Cluster",
    "current",
    "down",
    "find_cluster",
    "leftovers",
    "restart",
    "status",
    "stop_part",
    "types_of",
    "up",
]

OnLine = Callable[[str], None]


@dataclass(frozen=True)
class Cluster:
    """A cluster that is up: how to reach it, and what it is made of.

    `s3_endpoint` answers on the host and in pods; `credentials` are the lab's. `address` is the
    node's: pods' and services' addresses can be reached from the host too.
    """

    folder: Path
    kubeconfig: Path
    s3_endpoint: str
    credentials: S3Credentials
    images: Images
    node: str
    address: str
    versions: Mapping[str, str]

    @property
    def api(self) -> Api:
        """Its API server, asked as its administrator."""
        return Api(self.address, Pki(self.folder / "pki"))


def folder_of(lab: Lab) -> Path:
    """Where the cluster of a lab lives."""
    return lab.folder / "cluster"


def up(lab: Lab, *, kserve: str | None = None, on_line: OnLine = lambda _: None) -> Cluster:
    """Build what is missing, start what doesn't run, and wait until the cluster takes deployments.

    Args:
        lab: its object store is the cluster's; its owner is the cluster's.
        kserve: the version of KServe; the usual one, or the running one, when none is named.
        on_line: is told each step.

    Raises:
        UsageError: no such KServe, or another one runs.
        PreflightError: this machine can't run it; each missing thing has its command.
        LabError: a part did not start; in its own words.
    """
    check_system()
    folder = folder_of(lab)
    running = find_cluster(lab)
    version = kserve or (running.versions["kserve"] if running else default_kserve())
    if running is not None and running.versions["kserve"] != version:
        raise UsageError(
            f"The cluster runs KServe {running.versions['kserve']}, not {version}.",
            why="A cluster has one KServe; its objects would not outlive the change.",
            fix=f"runbook lab down; runbook lab up --cluster --kserve {version}",
        )
    built = ensure_parts(version, on_line)
    # A running cluster keeps the images that it started with: its settings name them.
    images = running.images if running else ensure_images(_images_folder(), on_line=on_line)
    store = lab.up(on_line)
    with locked(folder):
        if traces.read_host(folder) is not None and not _node_lives(folder):
            on_line("Sweeping what a cluster before left")
            _end(folder)
        try:
            site = start_cluster(
                folder,
                lab.owner,
                built,
                images,
                object_store=store.endpoint.removeprefix("http://"),
                on_line=on_line,
            )
        except BaseException:
            if running is None:  # half a cluster serves nobody; the logs of its parts stay
                _end(folder)
            raise
        facts = {
            "s3_endpoint": f"http://{site.host.network.node}:9000",
            "address": site.host.network.node,
            "versions": {name: part.version for name, part in built.items()},
            "images": {**asdict(images), "archive": str(images.archive)},
        }
        write_whole(folder / "cluster.json", json.dumps(facts))
    found = find_cluster(lab)
    assert found is not None
    make_home(found.kubeconfig, found.s3_endpoint, found.credentials)
    return found


@contextmanager
def types_of(lab: Lab, kserve: str, on_line: OnLine = lambda _: None) -> Iterator[Path]:
    """An API server that knows the types of one KServe and nothing else, for the block's time.

    It judges manifests by their schema (`dryRun=All`) in a few seconds, without a build of that
    KServe. Its lab must have no cluster.

    Yields:
        The kubeconfig of its administrator.

    Raises:
        UsageError: no such KServe, or the lab has a cluster.
        PreflightError, LabError: as `up`.
    """
    check_system()
    folder = folder_of(lab)
    if _node_lives(folder):
        raise UsageError(
            f"The lab {lab.name!r} has a cluster.",
            fix="Give the API server a lab of its own: its name is free.",
        )
    wanted = {name: part for name, part in parts().items() if name in {"etcd", "kubernetes"}}
    built = {**wanted, "kserve": kserve_types(kserve)}
    build([part for part in built.values() if not part.folder.is_dir()], on_line)
    try:
        with locked(folder):
            _end(folder)
            site = start_types(folder, lab.owner, built, expected_images(_images_folder()))
        yield site.pki.kubeconfig("admin")
    finally:
        down(lab)


def find_cluster(lab: Lab) -> Cluster | None:
    """The cluster of a lab, if it was started whole and its node still lives."""
    folder = folder_of(lab)
    try:
        facts = json.loads((folder / "cluster.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if not _node_lives(folder):
        return None
    return Cluster(
        folder=folder,
        kubeconfig=Pki(folder / "pki").kubeconfig("admin"),
        s3_endpoint=facts["s3_endpoint"],
        credentials=keys_of(lab.folder),
        images=Images(**{**facts["images"], "archive": Path(facts["images"]["archive"])}),
        node=NODE_NAME,
        address=facts["address"],
        versions=facts["versions"],
    )


def _node_lives(folder: Path) -> bool:
    node = find(folder / "parts", "node")
    return node is not None and node.alive()


def _images_folder() -> Path:
    return cache_dir() / "cluster" / "images"


def current() -> Cluster:
    """The cluster of this run's lab.

    Raises:
        LabError: it has none.
    """
    lab = current_lab()
    if (found := find_cluster(lab)) is None:
        raise LabError(
            f"The lab {lab.name!r} has no cluster up.",
            fix="runbook lab up --cluster",
        )
    return found


def down(lab: Lab) -> list[str]:
    """End the cluster of a lab and sweep everything of it; its images and logs are kept.

    Returns:
        The names of the parts that lived.

    Raises:
        LabError: something is left; each thing is named.
    """
    folder = folder_of(lab)
    if not folder.is_dir():
        return []
    with locked(folder):
        ended = _end(folder)
        if left := leftovers(folder):
            raise LabError(
                "The cluster is down, but not all of it is gone.",
                why="\n".join(left),
                fix="Run the same command again; what stays needs its user ended first.",
            )
    return ended


def _end(folder: Path) -> list[str]:
    running = listing(folder / "parts")
    others = [one for one in running if one.name != "node"]
    if others:
        with ThreadPoolExecutor(len(others)) as pool:
            list(pool.map(stop, others))
    for one in running:
        if one.name == "node":
            stop(one, timeout=60)
    traces.sweep(folder)
    (folder / "cluster.json").unlink(missing_ok=True)
    return [one.name for one in running]


def leftovers(folder: Path) -> list[str]:
    """Everything of a cluster that is still on this machine and should not be when it is down."""
    return traces.leftovers(folder)


def status(lab: Lab) -> dict[str, Any]:
    """Each part: whether it lives, its process and its memory; and how the cluster is reached."""
    folder = folder_of(lab)
    found = find_cluster(lab)
    rows = []
    for name in PARTS:
        one = find(folder / "parts", name)
        alive = one is not None and one.alive()
        rows.append(
            {
                "name": name,
                "alive": alive,
                "process": one.server.pid if one else None,
                "memory_bytes": _resident(one.server.pid) if one and alive else 0,
                "log": str(folder / "parts" / f"{name}.log"),
            }
        )
    facts: dict[str, Any] = {"up": found is not None and all(row["alive"] for row in rows)}
    if found is not None:
        facts |= {
            "kubeconfig": str(found.kubeconfig),
            "s3_endpoint": found.s3_endpoint,
            "versions": dict(found.versions),
        }
    return {**facts, "folder": str(folder), "parts": rows}


def _resident(pid: int) -> int:
    try:
        said = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    lines = [line.split() for line in said.splitlines() if line.startswith("VmRSS:")]
    return int(lines[0][1]) * 1024 if lines else 0


def stop_part(cluster: Cluster, name: str) -> None:
    """End one part, as a fault; `restart` brings it back.

    Raises:
        UsageError: there is no such part.
    """
    _known(name)
    if (one := find(cluster.folder / "parts", name)) is not None:
        stop(one)


def restart(cluster: Cluster, name: str) -> None:
    """End one part and start it again in the same place; returns when it answers.

    Raises:
        UsageError: there is no such part.
        LabError: it did not start again.
    """
    stop_part(cluster, name)
    host = traces.read_host(cluster.folder)
    holder = find(cluster.folder / "parts", "node")
    assert host is not None
    assert holder is not None
    built = {**parts(), "kserve": kserve_part(cluster.versions["kserve"])}
    site = Site(host, Pki(cluster.folder / "pki"), built, cluster.images, holder.server.pid)
    start_part(site, holder.owner, name)


def _known(name: str) -> None:
    if name not in PARTS[2:]:
        raise UsageError(
            f"The cluster has no part {name!r} that can be stopped alone.",
            fix=f"Name one of {', '.join(PARTS[2:])}.",
        )
