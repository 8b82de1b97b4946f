"""What the test cluster needs of this machine, checked before anything is built or started."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from runbook_lib.errors import LabError, PreflightError
from runbook_lib.lab.cluster.host import CGROUPS
from runbook_lib.lab.cluster.site import SEARCH_PATH, Site

__all__ = ["cgroup_problem", "check_system", "cni_plugins", "missing_packages", "proxy_mode"]

ELSEWHERE = (
    "Any cluster with KServe does as well: runbook run … --target kserve, with its kubeconfig."
)
# Program, and Debian's package of it; `make setup` installs the same ones.
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "openssl": "openssl",
}
CONTROLLERS = {"cpu", "memory", "pids"}
CNI = ("/usr/lib/cni", "/opt/cni/bin")
CNI_PACKAGE = "containernetworking-plugins"


def check_system() -> None:
    """Refuse a machine that can't run the cluster.

    Raises:
        PreflightError: with what is missing, and how to get it.
    """
    if platform.system() != "Linux" or os.geteuid() != 0:
        who = "this user" if platform.system() == "Linux" else platform.system()
        raise PreflightError(
            f"The test cluster needs root on Linux; this is {who}.",
            why="Its kubelet and containerd make control groups, mounts and network namespaces.",
            fix=f"Run the same command with sudo, or in a Debian 12 machine. {ELSEWHERE}",
        )
    if missing := missing_packages():
        raise PreflightError(
            f"The test cluster lacks {', '.join(missing)}.",
            fix=f"apt-get install -y {' '.join(missing)}   (make test installs them too)",
        )
    if problem := cgroup_problem(CGROUPS) or _namespace_problem():
        raise PreflightError(
            "The kernel lets this process make no node.",
            why=problem,
            fix="In a container: start it with --privileged --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw. "
            + ELSEWHERE,
        )


def cgroup_problem(root: Path) -> str:
    """Why the kubelet can't limit pods by the control groups mounted there; empty where it can."""
    if (root / "cgroup.controllers").is_file():  # version 2 alone
        offered = set((root / "cgroup.controllers").read_text("ascii").split())
        enabled = set((root / "cgroup.subtree_control").read_text("ascii").split())
        if lacking := CONTROLLERS - offered:
            return f"{root} does not offer {', '.join(sorted(lacking))}."
        # Only the true root may hold processes and hand on controllers too.
        inner = (root / "cgroup.type").is_file() and (root / "cgroup.procs").read_text("ascii")
        if inner and (lacking := CONTROLLERS - enabled):
            return (
                f"{root} is no root of its own: with processes in it, it can't hand on "
                f"{', '.join(sorted(lacking))}."
            )
    elif lacking := {one for one in CONTROLLERS if not (root / one / "cgroup.procs").is_file()}:
        return f"{root} has no hierarchy of {', '.join(sorted(lacking))}."
    writable = root if (root / "cgroup.controllers").is_file() else root / "pids"
    return "" if os.access(writable, os.W_OK) else f"{writable} is mounted read-only."


def _namespace_problem() -> str:
    argv = ["unshare", "--net", "--mount", "true"]
    tried = subprocess.run(argv, capture_output=True, text=True, check=False)
    return tried.stderr.strip() if tried.returncode else ""


def missing_packages() -> list[str]:
    """Debian's packages that aren't there."""
    missing = {package for name, package in PROGRAMS.items() if not _found(name)}
    if not any(Path(folder, "ptp").is_file() for folder in CNI):
        missing.add(CNI_PACKAGE)
    return sorted(missing)


def _found(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SEARCH_PATH}")


def cni_plugins() -> Path:
    """Where the network plugins lie."""
    return next(Path(folder) for folder in CNI if Path(folder, "ptp").is_file())


def proxy_mode(site: Site) -> str:
    """How kube-proxy can work with this kernel: tried in the node's own network.

    Raises:
        LabError: neither way works.
    """
    rule = "POSTROUTING -m conntrack --ctstate INVALID -m comment --comment try -j MASQUERADE --random-fully"
    trial = f"iptables -w -t nat -A {rule} && iptables -w -t nat -D {rule}"
    tried = subprocess.run(
        site.enter(["sh", "-c", trial]), capture_output=True, text=True, check=False
    )
    if tried.returncode == 0:
        return "iptables"
    if _found("nft"):
        return "nftables"
    raise LabError(
        "Services can't work on this machine: iptables refuses the rules that kube-proxy needs.",
        why=tried.stderr.strip()[-400:],
        fix="Install nftables (apt-get install -y nftables), or a kernel with the xt_* modules.",
    )
