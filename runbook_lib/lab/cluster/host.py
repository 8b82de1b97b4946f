"""What a cluster leaves on the host beside its processes, how all of it is swept, and what is left.

Every process of the node, its containers among them, is in control groups of the cluster's own; so
they are found and ended however their parents died. Mounts, addresses and filter rules live in
namespaces that end with those processes. What remains are control groups, and what all clusters of a
machine share: folders that the kubelet and containerd insist on, and kernel settings that the
kubelet changes. That is written down by the first cluster and put back by the last.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.files import write_whole
from runbook_lib.lab.cluster.network import Network
from runbook_lib.serving.supervise import listing

__all__ = [
    "PLACES",
    "Host",
    "cgroup_of",
    "end_processes",
    "inner",
    "leftovers",
    "link_of",
    "machine_lock",
    "membership",
    "prepare",
    "read_host",
    "sweep",
]

CGROUPS = Path("/sys/fs/cgroup")
# Places that the kubelet and containerd use whatever one tells them: in the node's own mount
# namespace each is a folder below the cluster's.
PLACES = (
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
SETTINGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
# With version 2 the kubelet starts only below a group that has each of these that the kernel has.
CONTROLLERS = ("cpu", "cpuset", "hugetlb", "memory", "pids")
PASSING = ("node", "etcd", "pki", "config", "tmp")
GROUP = "runbook-"
SHARED = Path("/run/runbook-clusters.json")


@dataclass(frozen=True)
class Host:
    """The traces of one cluster on its host, as they were written down before it started."""

    folder: Path
    network: Network

    @property
    def parts(self) -> Path:
        """Where the state and the log of each part lie."""
        return self.folder / "parts"

    @property
    def link(self) -> str:
        """The host's end of the cable."""
        return link_of(self.folder)

    @property
    def cgroup(self) -> str:
        """The name of its control groups."""
        return cgroup_of(self.folder)


def tag_of(folder: Path) -> str:
    """Eight digits that tell one cluster's names on the host from another's."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:8]


def link_of(folder: Path) -> str:
    """The name of a cluster's interface."""
    return f"rb{tag_of(folder)}"


def cgroup_of(folder: Path) -> str:
    """The name of a cluster's control groups."""
    return f"{GROUP}{tag_of(folder)}"


def hierarchies() -> list[Path]:
    """Where control groups can be made: one place with version 2, one a controller with version 1."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return sorted(path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists())


def membership(host: Host) -> Path:
    """The file that a process writes its number into to belong to the cluster.

    One hierarchy is enough to find it by; of version 1, one that needs no settings first.
    """
    roots = {path.name: path for path in hierarchies()}
    root = roots.get("pids") or roots.get("memory") or next(iter(roots.values()))
    return root / host.cgroup / "parts" / "cgroup.procs"


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Clusters of one machine take turns where they share something; no file is left for it."""
    descriptor = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def prepare(folder: Path, network: Network) -> Host:
    """Write down what will be left, then make it; the machine's lock is held."""
    host = Host(folder, network)
    write_whole(_file(folder), json.dumps({"network": network.block}))
    if not SHARED.exists():
        made = [place for place in PLACES if not Path(place).exists()]
        settings = {name: value for name in SETTINGS if (value := _setting(name)) is not None}
        shared = {"made": made, "settings": settings, "handed_on": _not_handed_on()}
        write_whole(SHARED, json.dumps(shared))
    _hand_on("+", _not_handed_on())
    for place in PLACES:
        Path(place).mkdir(parents=True, exist_ok=True)
        inner(host, place).mkdir(parents=True, exist_ok=True)
    for root in hierarchies():
        group = root / host.cgroup
        group.mkdir(exist_ok=True)
        for name in (
            "cpuset.cpus",
            "cpuset.mems",
        ):  # version 1 starts them empty, and takes nobody in
            if (root / name).exists() and not (group / name).read_text("ascii").strip():
                (group / name).write_text((root / name).read_text("ascii"), "ascii")
    membership(host).parent.mkdir(exist_ok=True)
    return host


def _not_handed_on() -> list[str]:
    """The controllers of version 2 that the kubelet wants and the root's groups don't have."""
    if not (CGROUPS / "cgroup.controllers").exists():
        return []
    offered, handed_on = (
        (CGROUPS / f"cgroup.{name}").read_text("ascii").split()
        for name in ("controllers", "subtree_control")
    )
    return [one for one in CONTROLLERS if one in offered and one not in handed_on]


def _hand_on(sign: str, controllers: Iterable[str]) -> None:
    if words := " ".join(f"{sign}{one}" for one in controllers):
        (CGROUPS / "cgroup.subtree_control").write_text(words, "ascii")


def inner(host: Host, place: str) -> Path:
    """The folder that stands for a place of the host in the node's mount namespace."""
    return host.folder / "node" / place.strip("/").replace("/", "-")


def read_host(folder: Path) -> Host | None:
    """What was written down; None where there is no cluster."""
    try:
        said = json.loads(_file(folder).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Host(folder, Network(said["network"]))


def _file(folder: Path) -> Path:
    return folder / "host.json"


def _setting(name: str) -> str | None:
    path = Path("/proc/sys") / name
    return path.read_text(encoding="ascii").strip() if path.exists() else None


def members(folder: Path) -> list[int]:
    """Every process in the cluster's control groups, but this one."""
    found: set[int] = set()
    for group in _groups(folder):
        with contextlib.suppress(OSError):  # it ends while one looks
            found |= {int(word) for word in (group / "cgroup.procs").read_text("ascii").split()}
    return sorted(found - {os.getpid(), 0})


def end_processes(folder: Path) -> None:
    """Kill every process in the cluster's control groups, containers among them, but this one."""
    _leave_groups(folder)
    _until(lambda: not _killed(members(folder)), 20)


def sweep(folder: Path) -> None:
    """End every process of the node, and take away all that the cluster left; again does no harm."""
    end_processes(folder)
    _until(lambda: _groups_gone(folder), 10)
    if Path("/sys/class/net", link_of(folder)).exists():
        subprocess.run(
            ["/usr/bin/env", "ip", "link", "del", link_of(folder)], capture_output=True, check=False
        )
    for name in PASSING:
        shutil.rmtree(folder / name, ignore_errors=True)
    with machine_lock():
        _put_back()
    if not _traces(folder):
        _file(folder).unlink(missing_ok=True)


def _put_back() -> None:
    """What clusters share, when no other one is left that needs it."""
    said = _shared()
    if not said or _any_cluster():
        return
    for name, value in said["settings"].items():
        if _setting(name) != value:
            (Path("/proc/sys") / name).write_text(value, "ascii")
    with contextlib.suppress(OSError):  # somebody else's groups use it by now
        _hand_on("-", said.get("handed_on", ()))
    for place in said["made"]:
        with contextlib.suppress(OSError):  # somebody else uses it by now
            Path(place).rmdir()
    SHARED.unlink()


def _shared() -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(SHARED.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return said


def _any_cluster() -> bool:
    return any(next(root.glob(f"{GROUP}*"), None) for root in hierarchies())


def _leave_groups(folder: Path) -> None:
    """The holder of the namespaces sweeps too, and is a member: it goes back to the top first."""
    for root in hierarchies():
        mine = root / cgroup_of(folder) / "parts" / "cgroup.procs"
        if mine.exists() and str(os.getpid()) in mine.read_text("ascii").split():
            (root / "cgroup.procs").write_text(str(os.getpid()), "ascii")


def _killed(processes: Iterable[int]) -> bool:
    """Kill them; whether there was any."""
    any_left = False
    for pid in processes:
        any_left = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return any_left


def _groups(folder: Path) -> list[Path]:
    """The cluster's control groups, the innermost first."""
    tops = [root / cgroup_of(folder) for root in hierarchies()]
    # Unlike rglob, walk doesn't mind what goes while one looks.
    return [Path(place) for top in tops for place, _, _ in os.walk(top, topdown=False)]


def _groups_gone(folder: Path) -> bool:
    for group in _groups(folder):
        with contextlib.suppress(OSError):  # its last process is just ending
            group.rmdir()
    return not _groups(folder)


def _until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.05)


def _traces(folder: Path) -> list[str]:
    """What is left outside of its folder."""
    found = [f"control group {path}" for path in _groups(folder)]
    if Path("/sys/class/net", link_of(folder)).exists():
        found.append(f"interface {link_of(folder)}")
    return found


def leftovers(folder: Path) -> list[str]:
    """Everything on this machine that is a cluster's and should be gone when it is down."""
    found = [f"process {pid}" for pid in members(folder)]
    found += [
        f"{one.name}: process {one.server.pid} or its keeper" for one in listing(folder / "parts")
    ]
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    points = [line.split()[4] for line in mounts]
    found += [f"mount {point}" for point in points if Path(point).is_relative_to(folder)]
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    found += [f"socket {path}" for path in files if path.is_socket()]
    found += _traces(folder)
    if SHARED.exists() and not _any_cluster():
        found.append(f"what clusters share: {SHARED}")
    return found
