"""Where a cluster's parts run: on the host, or inside the node's namespaces; always in its groups."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.lab.cluster.api import Api
from runbook_lib.lab.cluster.host import Host, membership
from runbook_lib.lab.cluster.images import Images
from runbook_lib.lab.cluster.parts import Part
from runbook_lib.lab.cluster.pki import Pki
from runbook_lib.serving.supervise import ServerSpec

__all__ = ["SEARCH_PATH", "Site", "joined", "python_environment"]

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The shell enters the control group and becomes the program: its number stays the same.
JOIN = ["sh", "-c", 'echo $$ > "$0" && exec "$@"']


@dataclass(frozen=True)
class Site:
    """A cluster at work: its host, its keys, its programs, and the process that holds its namespaces."""

    host: Host
    pki: Pki
    built: Mapping[str, Part]
    images: Images
    holder: int

    @property
    def api(self) -> Api:
        """Its API server, asked as its administrator."""
        return Api(self.host.network.node, self.pki)

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command that runs another one inside the node's namespaces."""
        return ["nsenter", "--target", str(self.holder), "--net", "--mount", "--", *argv]

    def config(self, name: str) -> Path:
        """A configuration file of the cluster."""
        return self.host.folder / "config" / name

    def spec(
        self,
        name: str,
        argv: Sequence[str],
        environment: Mapping[str, str] | None = None,
        stop_seconds: float = 2.0,
    ) -> ServerSpec:
        """One part inside the node's namespaces. Its data is thrown away: it is not waited for long."""
        return ServerSpec(
            name=name,
            argv=joined(self.host, self.enter(argv)),
            env={"PATH": SEARCH_PATH, "HOME": "/root", **(environment or {})},
            cwd=self.host.folder,
            stop_seconds=stop_seconds,
        )


def joined(host: Host, argv: Sequence[str]) -> list[str]:
    """The command that runs another one in the cluster's control group."""
    return [*JOIN, str(membership(host)), *argv]


def python_environment() -> dict[str, str]:
    """What a Python of ours needs to find the same packages and the same cache."""
    names = ("HOME", "PATH", "RUNBOOK_CACHE", "XDG_CACHE_HOME", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in names if name in os.environ}
