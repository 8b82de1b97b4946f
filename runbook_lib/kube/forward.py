"""A pod's port on this machine: a local listener, each connection carried through the API server.

The Kubernetes client's own port forward is not used: it drops what is still to be written when one
side ends, and keeps a thread for a socket that nobody closed.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from runbook_lib.errors import ServiceError
from runbook_lib.kube.client import Kube
from runbook_lib.kube.errors import ApiError, explain

__all__ = ["forward"]

DATA, ERROR = 0, 1  # channels of the one port; the first frame of each repeats the port's number
CHUNK = 16_384
ENOUGH = 1 << 20  # bytes that wait on one side before the other is read no further
REFUSED_SECONDS = 0.3  # in this time a port that nobody listens on is told
LINGER_SECONDS = 1.0  # a client that ended its side may still wait for the answer
LOOK_SECONDS = 0.5


@contextmanager
def forward(kube: Kube, pod: str, port: int, *, namespace: str | None = None) -> Iterator[int]:
    """Listen on a free loopback port as long as the block runs; yields that port.

    Raises:
        ServiceError: the pod is not there, does not run, or nothing listens on its port.
    """
    _check(kube, pod, port, namespace)
    forwarder = _Forwarder(kube, pod, port, namespace)
    try:
        yield forwarder.local_port
    finally:
        forwarder.close()


def _check(kube: Kube, pod: str, port: int, namespace: str | None) -> None:
    found = kube.get("Pod", pod, namespace)
    where = f"{namespace or kube.namespace}/{pod}"
    if found is None:
        raise ServiceError(
            f"There is no pod {where}.", fix="It may have been replaced: look at what runs now."
        )
    phase = found.get("status", {}).get("phase", "Unknown")
    if phase != "Running":
        raise ServiceError(
            f"Port {port} of pod {where} can't be reached: the pod is {phase}.",
            fix="Wait until it runs, or see why it doesn't.",
            page="06_troubleshoot",
        )
    try:
        tunnel = _Tunnel(kube, pod, port, namespace)
    except ApiError as error:
        raise explain(error, f"forward port {port} of pod {pod}", kube.server) from None
    try:
        said = tunnel.first_error(REFUSED_SECONDS)
    finally:
        tunnel.close()
    if said:
        raise ServiceError(
            f"Nothing answers on port {port} of pod {where}.",
            why=said,
            fix="The server in it does not listen yet, or ended: read the pod's log.",
            page="06_troubleshoot",
        )


class _Tunnel:
    """One connection to a pod's port, as frames on a WebSocket."""

    def __init__(self, kube: Kube, pod: str, port: int, namespace: str | None) -> None:
        path = kube.resource("Pod").path(namespace or kube.namespace, pod)
        self._socket: Any = kube.websocket(f"{path}/portforward", {"ports": port})
        self._begun: set[int] = set()
        self.error = ""
        self.open = True

    def fileno(self) -> int:
        """For `select`."""
        return int(self._socket.fileno())

    def pending(self) -> bool:
        """Whether decrypted bytes wait that `select` can't see."""
        raw = self._socket.sock
        return isinstance(raw, ssl.SSLSocket) and raw.pending() > 0

    def receive(self) -> bytes:
        """What the next frame brings for us; empty for other frames, and at the end (`open` is False)."""
        from websocket import ABNF, WebSocketException

        try:
            code, frame = self._socket.recv_data_frame(True)
        except (WebSocketException, OSError):
            self.open = False
            return b""
        if code == ABNF.OPCODE_CLOSE:
            self.open = False
        if code not in {ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT} or not frame.data:
            return b""
        channel, data = frame.data[0], bytes(frame.data[1:])
        if channel not in self._begun:
            self._begun.add(channel)
            return b""
        if channel == ERROR:
            self.error += data.decode("utf-8", "replace")
            self.open = False
            return b""
        return data

    def send(self, data: bytes) -> None:
        """Send at most a chunk, as one whole frame: an answer to a ping must not come into it."""
        from websocket import ABNF

        frame = ABNF.create_frame(bytes([DATA]) + data, ABNF.OPCODE_BINARY).format()
        try:
            self._socket.sock.sendall(frame)
        except OSError:
            self.open = False

    def first_error(self, seconds: float) -> str:
        """What the pod's side says against the connection within a time; empty when nothing."""
        while self.open and (self.pending() or select.select([self], [], [], seconds)[0]):
            self.receive()
        return self.error

    def close(self) -> None:
        """End the connection."""
        self.open = False
        with suppress(Exception):  # it may be broken already, in whichever way
            self._socket.sock.shutdown(socket.SHUT_RDWR)
        with suppress(Exception):
            self._socket.shutdown()


class _Forwarder:
    """The listener, and a thread for each connection."""

    def __init__(self, kube: Kube, pod: str, port: int, namespace: str | None) -> None:
        self._target = (kube, pod, port, namespace)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self._threads: set[threading.Thread] = set()
        self.local_port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Stop listening, and end every connection."""
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(timeout=10.0)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                local, _ = self._listener.accept()
            except OSError:
                return
            self._threads = {one for one in self._threads if one.is_alive()}
            thread = threading.Thread(target=self._carry, args=(local,), daemon=True)
            self._threads.add(thread)
            thread.start()

    def _carry(self, local: socket.socket) -> None:
        with local:
            local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                tunnel = _Tunnel(*self._target)
            except ApiError:
                return  # the client sees its connection closed; the pod is gone
            try:
                self._pump(local, tunnel)
            finally:
                tunnel.close()

    def _pump(self, local: socket.socket, tunnel: _Tunnel) -> None:
        """Carry bytes both ways, in one thread: a TLS connection bears no two."""
        to_pod, to_local = b"", b""
        reading = True
        silent = 0.0
        while not self._closing.is_set() and (tunnel.open or to_local):
            readers: list[Any] = []
            readers += [local] if reading and tunnel.open and len(to_pod) < ENOUGH else []
            readers += [tunnel] if tunnel.open and len(to_local) < ENOUGH else []
            writers: list[Any] = []
            writers += [local] if to_local else []
            writers += [tunnel] if to_pod and tunnel.open else []
            waiting = tunnel in readers and tunnel.pending()
            readable, writable, _ = select.select(
                readers, writers, [], 0.0 if waiting else LOOK_SECONDS
            )
            silent = 0.0 if readable or writable or waiting else silent + LOOK_SECONDS
            if not reading and not to_pod and silent >= LINGER_SECONDS:
                return
            try:
                if local in readable:
                    data = local.recv(CHUNK)
                    reading = bool(data)
                    to_pod += data
                if local in writable:
                    to_local = to_local[local.send(to_local) :]
            except OSError:
                return
            if tunnel in readable or waiting:
                to_local += tunnel.receive()
            if tunnel in writable:
                tunnel.send(to_pod[:CHUNK])
                to_pod = to_pod[CHUNK:]
