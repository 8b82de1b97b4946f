"""The cluster's own network: a network namespace on one cable, and a block of addresses that is free.

The node, its pods and its services live in the namespace; the host reaches all of them through the
cable. Nothing of the host's own network is changed: no bridge, no filter rule, no forwarding.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from runbook_lib.errors import LabError

__all__ = ["Network", "block_of", "cable", "choose_network", "taken_blocks"]

CANDIDATES = range(88, 168)


@dataclass(frozen=True)
class Network:
    """One /22: its first /30 is the cable, its second /24 the pods', its third the services'."""

    block: str

    def _address(self, third: int, last: int) -> str:
        return str(ip_network(self.block)[third * 256 + last])

    @property
    def host(self) -> str:
        """The host's end of the cable."""
        return self._address(0, 1)

    @property
    def node(self) -> str:
        """The node's end: where the API server, the kubelet and the object store answer."""
        return self._address(0, 2)

    @property
    def pods(self) -> str:
        """The pods' addresses."""
        return f"{self._address(1, 0)}/24"

    @property
    def services(self) -> str:
        """The services' addresses."""
        return f"{self._address(2, 0)}/24"

    @property
    def api_service(self) -> str:
        """The service `kubernetes`: always the first of the services."""
        return self._address(2, 1)


def block_of(number: int) -> str:
    """The candidate with this second byte."""
    return f"10.{number}.0.0/22"


def choose_network(taken: Iterable[IPv4Network]) -> Network:
    """The first candidate that overlaps with nothing.

    Raises:
        LabError: every candidate is taken.
    """
    held = list(taken)
    for number in CANDIDATES:
        block = block_of(number)
        if not any(ip_network(block).overlaps(one) for one in held):
            return Network(block)
    raise LabError(
        "This machine has no block of addresses left for a cluster.",
        why=f"Its routes cover every one from {block_of(CANDIDATES[0])} to {block_of(CANDIDATES[-1])}.",
        fix="Take a route away (`ip route`), or use a cluster that you have.",
    )


def taken_blocks() -> list[IPv4Network]:
    """What this machine's routes lead to, but for the default route."""
    said = subprocess.run(
        ["/usr/bin/env", "ip", "-4", "-json", "route", "show", "table", "all"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [route.get("dst", "default") for route in json.loads(said.stdout or "[]")]
    return [IPv4Network(one, strict=False) for one in found if one not in {"default", "0.0.0.0/0"}]


def cable(link: str, network: Network, process: int) -> tuple[list[list[str]], list[list[str]]]:
    """The commands that lay the cable: on the host, then inside the namespace of a process.

    The namespace has no default route: what no cluster can reach is refused at once.
    """
    outside = [
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "node0", "netns", str(process)],
        ["ip", "addr", "add", f"{network.host}/30", "dev", link],
        ["ip", "link", "set", link, "up"],
        ["ip", "route", "add", network.block, "via", network.node, "dev", link],
    ]
    inside = [
        ["ip", "link", "set", "lo", "up"],
        ["ip", "addr", "add", f"{network.node}/30", "dev", "node0"],
        ["ip", "link", "set", "node0", "up"],
        ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"],
    ]
    return outside, inside
