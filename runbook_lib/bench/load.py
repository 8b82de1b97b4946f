"""Send a load and keep what happened to every request."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runbook_lib.artifacts import utc_now
from runbook_lib.bench.arrivals import start_offsets_ns
from runbook_lib.bench.client import Client, open_session, read_json, read_text
from runbook_lib.bench.health import Health
from runbook_lib.bench.own_loop import run_in_own_loop
from runbook_lib.bench.reading import Exchange, read_exchange
from runbook_lib.bench.records import LoadRun
from runbook_lib.bench.request_shape import request_shape
from runbook_lib.bench.server import Snapshot, changes, read_server
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.errors import LoadError, ProfileError

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Progress", "run_load"]

_POLL_S = 0.05


@dataclass(frozen=True)
class Progress:
    """How far a load is; `warming` while the requests that don't count are sent.

    `failed` is what is known at once; errors inside a stream are counted when the load has ended.
    """

    done: int
    failed: int
    total: int
    seconds: float
    warming: bool


def run_load(
    url: str,
    model: str,
    load: LoadSettings,
    prompts: Sequence[str],
    *,
    metrics_url: str = "",
    on_progress: Callable[[Progress], None] | None = None,
) -> LoadRun:
    """Send `load` to a Triton server and return a record of every request.

    Request i gets prompt `i % len(prompts)`. Works where an event loop already runs, and Ctrl-C
    ends it at once. `on_progress` is called in the caller's thread, at most ten times a second.

    Args:
        url: of Triton's HTTP endpoint.
        model: the model to ask, for example `ensemble`.
        load: what to send.
        prompts: the inputs, as text.
        metrics_url: of Triton's metrics page; without it the model statistics alone are read.
        on_progress: told how far the load is.

    Raises:
        ProfileError: there is no prompt.
        LoadError: no request succeeded; it tells the server's words.
    """
    if not prompts:
        raise ProfileError("A load needs at least one prompt.", fix="Name prompts for this load.")
    job = _Job(url, model, load, tuple(prompts), metrics_url)

    def tick() -> None:
        if on_progress is not None:
            on_progress(job.progress())

    run = run_in_own_loop(job.run, tick)
    if not run.succeeded:
        raise _nothing_succeeded(run)
    return run


class _Job:
    """One load while it runs; lives in the load's own thread, `progress` is read from another."""

    def __init__(
        self, url: str, model: str, load: LoadSettings, prompts: tuple[str, ...], metrics_url: str
    ) -> None:
        self._url, self._model, self._load = url.rstrip("/"), model, load
        self._prompts, self._metrics_url = prompts, metrics_url
        self._ended: list[Exchange] = []
        self._failed = 0
        self._warming = load.warmup > 0
        self._stopped = ""
        self._half = asyncio.Event()
        self._started = time.monotonic()
        self._health = Health(load.concurrency or 1, self._started, load.streaming)

    def progress(self) -> Progress:
        """How far the present phase is."""
        return Progress(
            done=len(self._ended),
            failed=self._failed,
            total=self._load.warmup if self._warming else self._load.requests,
            seconds=time.monotonic() - self._started,
            warming=self._warming,
        )

    async def run(self) -> LoadRun:
        async with open_session() as session:
            metadata = await read_json(session, f"{self._url}/v2/models/{self._model}")
            shape = request_shape(self._model, self._load, metadata)
            client = Client(session, self._url, shape, self._load.timeout_s, self._heard)
            await self._connect(session)
            await self._watched(self._warm_up(client))
            if not self._stopped:
                self._warming, self._ended, self._failed = False, [], 0
            return await self._measured(session, client)

    async def _measured(self, session: aiohttp.ClientSession, client: Client) -> LoadRun:
        before = await read_server(session, self._url, self._metrics_url)
        started_at, cpu, start = utc_now(), time.process_time(), time.perf_counter_ns()
        amid = asyncio.create_task(self._amid(session))
        try:
            if not self._stopped:
                await self._watched(self._send(client, start))
        finally:
            wall, cpu = (time.perf_counter_ns() - start) / 1e9, time.process_time() - cpu
            amid.cancel()
            (halfway,) = await asyncio.gather(amid, return_exceptions=True)
        after = await read_server(session, self._url, self._metrics_url)
        ended = sorted(self._ended, key=lambda exchange: exchange.index)
        return LoadRun(
            url=self._url,
            model=self._model,
            load=self._load,
            records=tuple(read_exchange(one, streaming=self._load.streaming) for one in ended),
            start_ns=start,
            started_at=started_at,
            wall_seconds=wall,
            cpu_seconds=cpu,
            distinct_prompts=len(set(self._prompts[: self._load.requests])),
            server=changes(before, after, halfway if isinstance(halfway, Snapshot) else None),
            stopped_early=self._stopped,
        )

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        """Open a connection for each worker: connecting is no part of a model's first token."""
        workers = range(self._load.concurrency or 0)
        await asyncio.gather(*(read_text(session, f"{self._url}/v2/health/live") for _ in workers))

    async def _amid(self, session: aiohttp.ClientSession) -> Snapshot:
        """The server's gauges when half of the requests are done: before and after it is idle."""
        await self._half.wait()
        return await read_server(session, self._url, self._metrics_url)

    async def _warm_up(self, client: Client) -> None:
        await self._closed(client, self._load.warmup, self._load.concurrency or self._load.warmup)

    async def _send(self, client: Client, start: int) -> None:
        if self._load.concurrency is None:
            await self._scheduled(client, start)
        else:
            await self._closed(client, self._load.requests, self._load.concurrency)

    async def _closed(self, client: Client, requests: int, workers: int) -> None:
        left = iter(range(requests))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(workers, requests)):
                group.create_task(self._worker(client, left))

    async def _worker(self, client: Client, left: Iterator[int]) -> None:
        for index in left:
            await self._one(client, index, None)
            if self._verdict():
                return

    async def _scheduled(self, client: Client, start: int) -> None:
        async with asyncio.TaskGroup() as group:
            for index, offset in enumerate(start_offsets_ns(self._load)):
                due = start + offset
                # Also when late: the tasks that are due must get their turn to send.
                await asyncio.sleep(max(0, due - time.perf_counter_ns()) / 1e9)
                if self._verdict():
                    return
                group.create_task(self._one(client, index, due))

    async def _one(self, client: Client, index: int, due: int | None) -> None:
        now = time.perf_counter_ns()
        exchange = Exchange(index, scheduled_ns=now if due is None else due, sent_ns=now)
        self._health.began(time.monotonic())
        try:
            await client.send(self._prompts[index % len(self._prompts)], exchange)
        except asyncio.CancelledError:
            exchange.end_ns = time.perf_counter_ns()
            exchange.fail("no answer", "none had come when the load was stopped")
            raise
        finally:
            self._note(exchange)

    def _note(self, exchange: Exchange) -> None:
        # Until something succeeded, each answer is read at once: it may be 200 and still worthless.
        known_good = self._health.succeeded and not exchange.error_kind
        ok = bool(known_good or read_exchange(exchange, streaming=self._load.streaming).ok)
        self._health.ended(time.monotonic(), ok=ok)
        self._failed += not ok
        self._ended.append(exchange)
        if not self._warming and 2 * len(self._ended) >= self._load.requests:
            self._half.set()

    def _verdict(self) -> str:
        return self._health.verdict(time.monotonic())

    def _heard(self) -> None:
        self._health.heard(time.monotonic())

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for the work, or end it when there is no hope."""
        task = asyncio.create_task(work)
        try:
            while not task.done() and not self._stopped:
                await asyncio.wait({task}, timeout=_POLL_S)
                self._stopped = self._verdict()
        finally:
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()


def _nothing_succeeded(run: LoadRun) -> LoadError:
    said = Counter((record.error_kind, record.error) for record in run.records)
    top = itertools.islice(said.most_common(), 2)
    words = "; ".join(f"{count} times {kind}: {error}" for (kind, error), count in top)
    stopped = f" It was stopped: {run.stopped_early}." if run.stopped_early else ""
    return LoadError(
        f"None of {len(run.records)} requests to {run.model} at {run.url} succeeded.{stopped}",
        why=words or "Nothing was sent.",
        fix=f"Ask the server itself: curl {run.url}/v2/models/{run.model}",
        page="06_troubleshoot",
    )
