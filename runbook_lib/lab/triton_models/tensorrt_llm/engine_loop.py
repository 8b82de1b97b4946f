"""The one thread that owns the pipeline: admits, steps, hands out tokens, drops the cancelled.

Everything that touches the pipeline happens here, since it is not made for several threads.
Triton's threads only append to a queue. With nothing to do the thread sleeps on a condition.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import openvino as ov
import openvino_genai as genai
from generation import Generation
from output import Output, Tensors

__all__ = ["Client", "EngineLoop", "Load"]


class Client(Protocol):
    """Where the responses to one Triton request go."""

    request_id: str

    def send(self, tensors: Tensors | None, *, last: bool) -> None:
        """Send one response; None with `last` only ends the request."""

    def fail(self, error: str, *, last: bool, cancelled: bool = False) -> None:
        """Send an error."""

    def gone(self) -> bool:
        """True when nobody waits for the responses any more."""


@dataclass(frozen=True)
class Load:
    """What the engine is busy with."""

    active: int
    waiting: int
    context: int
    cache_fraction: float
    iterations: int


@dataclass
class _Job:
    client: Client
    generations: Sequence[Generation]
    left: int
    cancelled: bool = False


@dataclass
class _Running:
    job: _Job
    output: Output
    handle: Any
    started: bool = False


class EngineLoop:
    """Serves generations from one `ContinuousBatchingPipeline`.

    Args:
        pipeline: the pipeline; from now on only this object may use it.
        reload: gives a fresh pipeline; after a step has failed, the old one fails at every step.
        vocabulary: the bytes of every token.
        max_batch_size: how many generations run at once; more wait in order of arrival.
        cancel_period: seconds between two looks for clients that left.
        report: called with the load at most every `report_period` seconds while busy, and
            once when the engine falls idle.
        report_period: seconds.
    """

    def __init__(
        self,
        pipeline: Any,
        vocabulary: Sequence[bytes],
        max_batch_size: int,
        *,
        reload: Callable[[], Any],
        cancel_period: float,
        report: Callable[[Load], None],
        report_period: float,
    ) -> None:
        self._pipeline, self._vocabulary, self._slots = pipeline, vocabulary, max_batch_size
        self._reload = reload
        self._report, self._report_period = report, report_period
        self._cancel_period = cancel_period
        self._arrived: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._to_stop: set[str] = set()
        self._waiting: deque[tuple[_Job, Generation]] = deque()
        self._running: list[_Running] = []
        self._next_id = self._iterations = 0
        self._next_cancel = self._next_report = 0.0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, client: Client, generations: Sequence[Generation]) -> None:
        """Queue the generations of one request; returns at once."""
        with self._wake:
            self._arrived.append(_Job(client, generations, len(generations)))
            self._wake.notify()

    def stop(self, request_id: str) -> None:
        """Cancel the requests with this id; returns at once."""
        with self._wake:
            self._to_stop.add(request_id)
            self._wake.notify()

    def close(self) -> None:
        """End the thread; requests that still run get an error."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._take():
            self._admit()
            try:
                self._drop_cancelled()
                self._step()
            except Exception as error:
                # What the runtime throws has no common type; the thread must outlive it.
                text = f"Encountered an error in forwardAsync function: {error}"
                self._fail_where(lambda _: True, text)
                self._pipeline = self._reload()
            self._report_load()
        self._fail_where(lambda _: True, "The model was unloaded before the request was complete.")

    def _take(self) -> bool:
        with self._wake:
            while not (self._arrived or self._running or self._waiting or self._closing):
                self._wake.wait()
            while self._arrived:
                job = self._arrived.popleft()
                self._waiting.extend((job, generation) for generation in job.generations)
            return not self._closing

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._slots:
            job, generation = self._waiting.popleft()
            self._next_id += 1
            try:
                handle = self._pipeline.add_request(
                    self._next_id, ov.Tensor(generation.prompt[None, :]), _config(generation)
                )
            except Exception as error:
                self._fail(job, str(error))
                continue
            self._running.append(_Running(job, Output(generation, self._vocabulary), handle))

    def _drop_cancelled(self) -> None:
        with self._wake:
            stopped, self._to_stop = self._to_stop, set()
        now = time.monotonic()
        if now < self._next_cancel and not stopped:
            return
        self._next_cancel = now + self._cancel_period
        for job in {id(job): job for job in self._jobs()}.values():
            job.cancelled = job.client.request_id in stopped or job.client.gone()
        self._fail_where(lambda job: job.cancelled, "The request was cancelled.", cancelled=True)

    def _step(self) -> None:
        if not self._pipeline.has_non_finished_requests():
            return
        self._pipeline.step()
        self._iterations += 1
        self._running = [running for running in self._running if not self._deliver(running)]

    def _deliver(self, running: _Running) -> bool:
        """Send what the last step produced; true if the generation is complete."""
        output, handle = running.output, running.handle
        while handle.can_read():
            running.started = True
            for part in handle.read().values():
                output.add(part.generated_ids, part.generated_log_probs)
        status = handle.get_status()
        ended = bool(status != genai.GenerationStatus.RUNNING)
        if status == genai.GenerationStatus.IGNORED:
            self._fail(running.job, "The KV cache has no room for the request.")
            return True
        if output.stopped and not ended:
            handle.cancel()
            ended = True
        tensors = output.next(ended)
        if ended:
            running.job.left -= 1
        if ended or tensors is not None:
            running.job.client.send(tensors, last=not running.job.left)
        return ended

    def _fail(self, job: _Job, error: str, *, cancelled: bool = False) -> None:
        job.left -= 1
        job.client.fail(error, last=not job.left, cancelled=cancelled)

    def _fail_where(
        self, condition: Callable[[_Job], bool], error: str, *, cancelled: bool = False
    ) -> None:
        for running in self._running:
            if condition(running.job):
                running.handle.cancel()
        for job in self._jobs():
            if condition(job):
                self._fail(job, error, cancelled=cancelled)
        self._running = [one for one in self._running if not condition(one.job)]
        self._waiting = deque(one for one in self._waiting if not condition(one[0]))

    def _jobs(self) -> list[_Job]:
        return [one.job for one in self._running] + [job for job, _ in self._waiting]

    def _report_load(self) -> None:
        idle = not (self._running or self._waiting)
        now = time.monotonic()
        if now < self._next_report and not idle:
            return
        self._next_report = now + self._report_period
        usage = 0.0 if idle else self._pipeline.get_metrics().cache_usage / 100
        context = sum(not one.started for one in self._running)
        self._report(Load(len(self._running), len(self._waiting), context, usage, self._iterations))


def _config(generation: Generation) -> Any:
    config = genai.GenerationConfig(**generation.options)
    if generation.grammar:
        config.structured_output_config = genai.StructuredOutputConfig(grammar=generation.grammar)
    return config
