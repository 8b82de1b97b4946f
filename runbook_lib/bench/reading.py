"""From the stamped bytes of one answer to its arrivals, tokens and errors (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from runbook_lib.bench.answers import Answer, read_answer
from runbook_lib.bench.records import CHUNKS, Arrival, RequestRecord
from runbook_lib.bench.sse import EventParser

__all__ = ["Exchange", "read_exchange"]

_TEXT = 200


@dataclass(slots=True)
class Exchange:
    """One request while it runs: `chunks` are (time in ns, bytes) of each read of the socket."""

    index: int
    scheduled_ns: int
    sent_ns: int
    end_ns: int = 0
    status: int = 0
    chunks: list[tuple[int, bytes]] = field(default_factory=list)
    error_kind: str = ""
    error: str = ""

    def fail(self, kind: str, words: str) -> None:
        """Note why it failed."""
        self.error_kind, self.error = kind, words


def read_exchange(exchange: Exchange, *, streaming: bool) -> RequestRecord:
    """The record of an exchange that ended.

    What came before a failure is kept. An error in the stream, an unreadable or unfinished event,
    and an answer without a token are failures although the status was 200.
    """
    timed, pending = (_events if streaming else _document)(exchange.chunks)
    answers = [(at, [read_answer(event) for event in events]) for at, events in timed]
    flat = [answer for _, group in answers for answer in group]
    source = next((answer.source for answer in flat if answer.source), CHUNKS)
    arrivals = tuple(
        Arrival(at, sum(_tokens(answer, source) for answer in group), len(group))
        for at, group in answers
    )
    kind, words = exchange.error_kind, exchange.error
    if not kind:
        kind, words = _judge(flat, arrivals, pending)
    return RequestRecord(
        index=exchange.index,
        scheduled_ns=exchange.scheduled_ns,
        sent_ns=exchange.sent_ns,
        end_ns=exchange.end_ns,
        status=exchange.status,
        arrivals=arrivals,
        tokens_in=next((one.tokens_in for one in flat if one.tokens_in is not None), None),
        token_source=source if flat else "",
        error_kind=kind,
        error=words,
        text="".join(answer.text for answer in flat)[:_TEXT],
    )


def _events(chunks: Sequence[tuple[int, bytes]]) -> tuple[list[tuple[int, list[bytes]]], bool]:
    parser = EventParser()
    timed = [(at, events) for at, data in chunks if (events := parser.feed(data))]
    return timed, parser.pending


def _document(chunks: Sequence[tuple[int, bytes]]) -> tuple[list[tuple[int, list[bytes]]], bool]:
    body = b"".join(data for _, data in chunks)
    return ([(chunks[-1][0], [body])] if body else []), False


def _tokens(answer: Answer, source: str) -> int:
    if source == CHUNKS:
        return 1 if answer.text else 0
    return answer.tokens or 0


def _judge(
    answers: Sequence[Answer], arrivals: Sequence[Arrival], pending: bool
) -> tuple[str, str]:
    for answer in answers:
        if not answer.readable:
            return "unreadable", f"not a JSON object: {answer.error}"
        if answer.error:
            return "error in answer", answer.error
    if pending:
        return "cut", "the stream ended inside an event"
    if not sum(arrival.tokens for arrival in arrivals):
        return "no tokens", "the server answered 200 without a single token"
    return "", ""
