"""One request over HTTP, stamped as close to the socket as asyncio lets us.

While a load runs, answers are only stamped and kept: reading one takes longer than the differences
that are to be measured.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runbook_lib.bench.answers import error_words
from runbook_lib.bench.reading import Exchange
from runbook_lib.bench.request_shape import RequestShape

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Client", "open_session", "read_json", "read_text"]

_KEEP_IDLE_S = 600.0


def open_session() -> aiohttp.ClientSession:
    """A session without a connection limit (aiohttp's default of 100 would become TTFT).

    aiohttp sets TCP_NODELAY itself. Idle connections are kept, so that a warm-up opens them. An
    `Exchange` given as `trace_request_ctx` is stamped when its body goes to the socket.
    """
    import aiohttp

    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(_stamp_sending)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_IDLE_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        trace_configs=[trace],
    )


async def _stamp_sending(_session: object, context: Any, _sent: object) -> None:
    exchange = context.trace_request_ctx
    if exchange is not None:
        exchange.sent_ns = time.perf_counter_ns()


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
        accept = "text/event-stream" if shape.streaming else "application/json"
        self._headers = {"Content-Type": "application/json", "Accept": accept}
        self._timeout_s = timeout_s
        self._heard = heard

    async def send(self, prompt: str, exchange: Exchange) -> None:
        """Send one prompt and wait for the end of its answer, all told in the exchange.

        A failure is an `error_kind` there, no exception.
        """
        body = self._shape.body(prompt)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._exchange(body, exchange)
        except TimeoutError:
            exchange.fail("timeout", f"no end within {self._timeout_s:g} s")
        except _client_errors() as error:
            exchange.fail(*_failure(error, exchange.status))
        exchange.end_ns = time.perf_counter_ns()

    async def _exchange(self, body: bytes, exchange: Exchange) -> None:
        stamp, chunks = time.perf_counter_ns, exchange.chunks
        request = self._session.post(
            self._url, data=body, headers=self._headers, trace_request_ctx=exchange
        )
        async with request as response:
            exchange.status = response.status
            if response.status >= 400:
                words = error_words(await response.read())
                exchange.fail(f"http {response.status}", words)
                return
            async for data in response.content.iter_any():
                chunks.append((stamp(), data))
                if b'"error"' not in data:
                    self._heard()
            if not _is_framed(response):
                exchange.fail(
                    "cut", "the answer has neither length nor chunks: its end proves nothing"
                )


def _is_framed(response: aiohttp.ClientResponse) -> bool:
    chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
    return chunked or response.content_length is not None


def _client_errors() -> tuple[type[Exception], ...]:
    import aiohttp

    return (aiohttp.ClientError, OSError)  # TimeoutError is an OSError


def _failure(error: Exception, status: int) -> tuple[str, str]:
    import aiohttp

    words = str(error) or type(error).__name__
    if isinstance(error, aiohttp.InvalidURL):
        return "url", f"{words} is no HTTP address"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connect", words
    return ("cut" if status else "connection"), words


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
