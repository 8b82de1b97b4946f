import json

import pytest

from runbook_lib.bench.answers import error_words, read_answer
from runbook_lib.bench.reading import Exchange, read_exchange


def event(**fields):
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def record_of(*chunks, streaming=True, **fields):
    exchange = Exchange(index=0, scheduled_ns=0, sent_ns=0, end_ns=9, status=200, **fields)
    exchange.chunks = [(at, data) for at, data in enumerate(chunks, 1)]
    return read_exchange(exchange, streaming=streaming)


@pytest.mark.parametrize("counts", [8, [8], [[8]], [3, 5], 8.0])
@pytest.mark.parametrize("name", ["output_lengths", "sequence_length", "num_output_tokens"])
def test_the_servers_count_is_read_in_each_shape_and_name(name, counts):
    answer = read_answer(json.dumps({"text_output": "x", name: counts}).encode())
    assert (answer.tokens, answer.source) == (8, name)


@pytest.mark.parametrize("value", [None, True, -1, 2.5, "8", [], [None], {}, float("inf")])
def test_what_is_no_count_is_not_taken_for_one(value):
    assert read_answer(json.dumps({"output_lengths": value}).encode()).tokens is None


def test_events_of_one_read_share_its_time_and_add_their_tokens():
    record = record_of(
        event(text_output="a", output_lengths=1),
        event(text_output="b", output_lengths=2) + event(text_output="c", output_lengths=1),
    )
    assert [(one.at_ns, one.tokens, one.events) for one in record.arrivals] == [
        (1, 1, 1),
        (2, 3, 2),
    ]
    assert (record.ok, record.tokens_out, record.text) == (True, 4, "abc")


def test_a_split_event_arrives_with_its_last_byte():
    data = event(text_output="a", output_lengths=1)
    record = record_of(data[:9], data[9:])
    assert [one.at_ns for one in record.arrivals] == [2]


def test_without_counts_chunks_with_text_are_counted_and_flagged():
    record = record_of(event(text_output="a long piece of text"), event(text_output=""))
    assert (record.tokens_out, record.token_source, record.ok) == (1, "chunks", True)


def test_an_event_without_a_count_adds_none_where_others_have_counts():
    record = record_of(event(text_output="a", output_lengths=1), event(text_output="b"))
    assert (record.tokens_out, record.token_source) == (1, "output_lengths")


def test_an_error_in_the_stream_is_a_failure_in_the_servers_words():
    record = record_of(event(text_output="a", output_lengths=1), event(error="KV cache exhausted"))
    assert (record.error_kind, record.error) == ("error in answer", "KV cache exhausted")


def test_a_stream_that_ends_inside_an_event_is_a_failure():
    record = record_of(event(text_output="a", output_lengths=1), b'data: {"text')
    assert record.error_kind == "cut"


@pytest.mark.parametrize("chunks", [(), (event(text_output="", output_lengths=0),)])
def test_an_answer_of_200_without_a_token_is_a_failure(chunks):
    assert record_of(*chunks).error_kind == "no tokens"


@pytest.mark.parametrize("data", [b"data: <html>\n\n", b"data: [1]\n\n", b"data: [DONE]\n\n"])
def test_an_event_that_is_no_json_object_is_a_failure(data):
    assert record_of(data).error_kind == "unreadable"


def test_a_failure_on_the_wire_is_not_judged_again():
    record = record_of(event(text_output="a", output_lengths=1), error_kind="timeout", error="late")
    assert (record.error_kind, record.error, record.tokens_out) == ("timeout", "late", 1)


def test_an_answer_that_is_not_streamed_is_one_arrival_with_its_last_byte():
    body = json.dumps(
        {"text_output": "abc", "output_lengths": [[3]], "num_input_tokens": 5}
    ).encode()
    record = record_of(body[:4], body[4:], streaming=False)
    assert [(one.at_ns, one.tokens) for one in record.arrivals] == [(2, 3)]
    assert (record.ok, record.tokens_in) == (True, 5)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error":"unknown model"}', "unknown model"),
        (b'data: {"error":"unknown model"}\n\n', "unknown model"),
        (b"<h1>502 Bad Gateway</h1>", "<h1>502 Bad Gateway</h1>"),
        (b"", ""),
    ],
)
def test_a_refusal_is_quoted_in_the_servers_words(body, words):
    assert error_words(body) == words
