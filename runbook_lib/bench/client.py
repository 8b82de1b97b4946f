"""One request over HTTP, stamped as close to the socket as asyncio lets us."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runbook_lib.bench.answers import error_words
from runbook_lib.bench.reading import read_chunks
from runbook_lib.bench.records import RequestRecord
from runbook_lib.bench.request_shape import RequestShape

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Client", "open_session", "read_json", "read_text"]

_KEEP_IDLE_S = 600.0


def open_session() -> aiohttp.ClientSession:
    """A session without a connection limit (aiohttp's default of 100 would become TTFT).

    aiohttp sets TCP_NODELAY itself. Idle connections are kept, so that a warm-up opens them.
    """
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_IDLE_S)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)


@dataclass
class _Exchange:
    """What has come back so far."""

    status: int = 0
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    kind: str = ""
    words: str = ""


class Client:
    """Sends prompts to one model.

    Args:
        session: from `open_session`.
        url: of the server, with or without a final slash.
        shape: of the request.
        timeout_s: seconds from sending to the last byte.
        heard: called with each read that brings no error: the server is alive.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        shape: RequestShape,
        timeout_s: float,
        heard: Callable[[], None],
    ) -> None:
        self._session = session
        self._url = url.rstrip("/") + shape.path
        self._shape = shape
        self._streaming = shape.path.endswith("_stream")
        accept = "text/event-stream" if self._streaming else "application/json"
        self._headers = {"Content-Type": "application/json", "Accept": accept}
        self._timeout_s = timeout_s
        self._heard = heard

    async def send(self, index: int, prompt: str, scheduled_ns: int | None = None) -> RequestRecord:
        """Send one prompt and wait for the answer's end; a failure is a record, no exception."""
        body = self._shape.body(prompt)
        seen = _Exchange()
        sent = time.perf_counter_ns()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._exchange(body, seen)
        except TimeoutError:
            seen.kind, seen.words = "timeout", f"no end within {self._timeout_s:g} s"
        except _client_errors() as error:
            seen.kind, seen.words = _failure(error, seen)
        end = time.perf_counter_ns()
        reading = read_chunks(seen.chunks, streaming=self._streaming, whole=not seen.kind)
        return RequestRecord(
            index=index,
            scheduled_ns=sent if scheduled_ns is None else scheduled_ns,
            sent_ns=sent,
            end_ns=end,
            status=seen.status,
            arrivals=reading.arrivals,
            tokens_in=reading.tokens_in,
            token_source=reading.token_source,
            error_kind=seen.kind or reading.error_kind,
            error=seen.words or reading.error,
            text=reading.text,
        )

    async def _exchange(self, body: bytes, seen: _Exchange) -> None:
        stamp = time.perf_counter_ns
        chunks = seen.chunks
        async with self._session.post(self._url, data=body, headers=self._headers) as response:
            seen.status = response.status
            if response.status >= 400:
                seen.kind = f"http {response.status}"
                seen.words = error_words(await response.read())
                return
            async for data in response.content.iter_any():
                chunks.append((stamp(), data))
                if b'"error"' not in data:
                    self._heard()
            if not _is_framed(response):
                seen.kind = "cut"
                seen.words = "the answer has neither a length nor chunks, so its end proves nothing"


def _is_framed(response: aiohttp.ClientResponse) -> bool:
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    return chunked or response.content_length is not None


def _client_errors() -> tuple[type[Exception], ...]:
    import aiohttp

    return (aiohttp.ClientError, OSError)  # TimeoutError is an OSError


def _failure(error: Exception, seen: _Exchange) -> tuple[str, str]:
    import aiohttp

    words = str(error) or type(error).__name__
    if isinstance(error, aiohttp.InvalidURL):
        return "url", f"{words} is no HTTP address"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connect", words
    return ("cut" if seen.status else "connection"), words


async def read_text(session: aiohttp.ClientSession, url: str, timeout_s: float = 5.0) -> str:
    """A server's information page; empty when there is none to be had."""
    try:
        async with asyncio.timeout(timeout_s), session.get(url) as response:
            body = await response.read()
            return body.decode("utf-8", "replace") if response.status == 200 else ""
    except _client_errors():
        return ""


async def read_json(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """A JSON object from a server's information page; empty when there is none to be had."""
    try:
        value = json.loads(await read_text(session, url))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
