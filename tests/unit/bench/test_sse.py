import itertools

from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.bench.sse import EventParser

STREAM = (
    b": a comment\n"
    b'data: {"text_output":" a"}\n\n'
    b'data:{"text_output":"b"}\r\n\r\n'
    b"event: message\rid: 7\rdata: one\rdata: two\r\r"
    b"retry: 10\n\n"
    b'data: {"text_output":" caf\xc3\xa9"}\n\n'
)
EVENTS = [
    b'{"text_output":" a"}',
    b'{"text_output":"b"}',
    b"one\ntwo",
    b'{"text_output":" caf\xc3\xa9"}',
]


def parse(chunks):
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)], parser.pending


def test_a_stream_read_at_once_gives_its_events_and_nothing_is_pending():
    assert parse([STREAM]) == (EVENTS, False)


def test_a_stream_read_byte_by_byte_gives_the_same_events():
    assert parse([STREAM[i : i + 1] for i in range(len(STREAM))]) == (EVENTS, False)


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_cut_of_the_stream_gives_the_same_events(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[a:b] for a, b in itertools.pairwise(edges)]
    assert parse(chunks) == (EVENTS, False)


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_no_bytes_make_the_parser_fail_or_depend_on_the_cut(chunks):
    assert parse(chunks) == parse([b"".join(chunks)])


def test_an_event_is_given_with_the_read_that_ends_it():
    parser = EventParser()
    assert parser.feed(b"data: x\n") == []
    assert parser.pending
    assert parser.feed(b"\n") == [b"x"]


def test_a_stream_that_ends_inside_an_event_is_pending():
    assert parse([b"data: whole\n\ndata: hal"]) == ([b"whole"], True)
