"""Carry connections from the node's address to the lab's object store on the host's loopback.

`python forward.py NAMESPACE LISTEN_HOST LISTEN_PORT TARGET_HOST TARGET_PORT`: the listening socket is
made inside the network namespace, the connections on the host, so that no port of the host is
opened. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import sys

__all__ = ["forward", "listening_in"]

CLONE_NEWNET = 0x40000000
CHUNK = 1 << 18


def listening_in(namespace: str, host: str, port: int) -> socket.socket:
    """A listening socket in a network namespace; this process then goes back to its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", "rb") as own, open(namespace, "rb") as other:  # noqa: PTH123 - descriptors
        if libc.setns(other.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            made = socket.create_server((host, port), backlog=256)
        finally:
            if libc.setns(own.fileno(), CLONE_NEWNET):
                os._exit(1)  # half in another network nothing can go on
    return made


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError:
        writer.transport.abort()


async def forward(listening: socket.socket, target: tuple[str, int]) -> None:
    """Carry every connection both ways until this process ends."""

    async def carry_both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*target, limit=CHUNK)
        except OSError:
            writer.transport.abort()  # refused there is refused here
            return
        try:
            await asyncio.gather(_carry(reader, back), _carry(there, writer))
        finally:
            for one in (writer, back):
                one.close()
                with contextlib.suppress(ConnectionError):
                    await one.wait_closed()

    server = await asyncio.start_server(carry_both, sock=listening, limit=CHUNK)
    await server.serve_forever()


if __name__ == "__main__":
    namespace, host, port, target_host, target_port = sys.argv[1:]
    made = listening_in(namespace, host, int(port))
    asyncio.run(forward(made, (target_host, int(target_port))))
