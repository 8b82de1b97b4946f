"""URIs, keys and messages of object stores, without one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib.errors import PreflightError, RepositoryError
from runbook_lib.repository.s3 import S3Access, open_client, parse_uri, triton_uri
from runbook_lib.repository.store import Pushed
from runbook_lib.repository.store_verify import Problem

LOCAL = S3Access("http://127.0.0.1:9000", "AKIAEXAMPLE", "s3cr3t")
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cr3t"}


@pytest.mark.parametrize(
    "uri",
    [
        "s3://models/triton/llama-7b/",
        "s3://models/triton/llama-7b",
        "s3://models//triton//llama-7b//",
    ],
)
def test_a_uri_is_the_same_with_or_without_its_last_slash(uri: str) -> None:
    location = parse_uri(uri)
    assert (location.bucket, location.prefix) == ("models", "triton/llama-7b/")
    assert location.uri == "s3://models/triton/llama-7b/"
    assert location.key("ensemble/config.pbtxt") == "triton/llama-7b/ensemble/config.pbtxt"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("gs://models/x/", "The scheme is gs"),
        ("https://host/models/x", "The scheme is https"),
        ("models/x", "The scheme is missing"),
        ("s3://models", "names a whole bucket"),
        ("s3://models/", "names a whole bucket"),
        ("s3:///x", "no usable bucket"),
        ("s3://Models/x", "small letters"),
        ("s3://models/a b/", "Triton can't read"),
        ("s3://models/a/../b", "Triton can't read"),
    ],
)
def test_a_uri_that_can_not_be_pushed_to_is_refused_in_words(uri: str, words: str) -> None:
    with pytest.raises(RepositoryError) as refused:
        parse_uri(uri)
    assert words in str(refused.value)
    assert refused.value.fix


@pytest.mark.parametrize(
    ("endpoint", "wanted"),
    [
        ("http://127.0.0.1:9000", "s3://http://127.0.0.1:9000/models/x"),
        ("http://127.0.0.1:9000/", "s3://http://127.0.0.1:9000/models/x"),
        ("https://store.example", "s3://https://store.example:443/models/x"),
        ("http://store.example", "s3://http://store.example:80/models/x"),
        ("", "s3://models/x"),
    ],
)
def test_triton_gets_the_endpoint_with_its_port_inside_the_uri(endpoint: str, wanted: str) -> None:
    assert triton_uri("s3://models/x/", replace(LOCAL, endpoint=endpoint)) == wanted


def test_keys_are_never_shown() -> None:
    assert repr(LOCAL) == "S3Access(http://127.0.0.1:9000, …)"
    assert repr(replace(LOCAL, endpoint="")) == "S3Access(AWS, …)"
    assert not [key for key in KEYS.values() if key in f"{LOCAL} {LOCAL!r}"]


def test_the_environment_gives_access_as_to_every_aws_tool() -> None:
    both = {"AWS_ENDPOINT_URL": "http://a:1", "AWS_ENDPOINT_URL_S3": "http://b:2"}
    assert S3Access.from_environment(KEYS | both).endpoint == "http://b:2"
    assert (
        S3Access.from_environment(KEYS | {"AWS_ENDPOINT_URL": "http://a:1"}).endpoint
        == "http://a:1"
    )
    plain = S3Access.from_environment(KEYS | {"AWS_DEFAULT_REGION": "eu-west-1"})
    assert (plain.endpoint, plain.region, plain.name) == ("", "eu-west-1", "AWS S3 (eu-west-1)")
    assert S3Access.from_environment(KEYS | {"AWS_SESSION_TOKEN": "t"}).session_token == "t"


def test_missing_keys_are_named_with_the_lines_that_set_them() -> None:
    with pytest.raises(PreflightError, match="AWS_SECRET_ACCESS_KEY is not set") as missing:
        S3Access.from_environment({"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE"})
    assert "export AWS_SECRET_ACCESS_KEY=" in missing.value.fix
    with pytest.raises(PreflightError, match="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are"):
        S3Access.from_environment({})


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "http://a b", "http://host/path"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(RepositoryError, match="not the URL of an object store"):
        open_client(replace(LOCAL, endpoint=endpoint))


def test_results_say_what_was_done_and_what_differs() -> None:
    sent = Pushed("s3://b/x/", "sha256:0123456789abcdef", 2, 3_500_000, 4, 1)
    assert str(sent) == (
        "2 files (3.5 MB) sent to s3://b/x/, 4 were there, 1 stale removed (sha256:0123456789ab)."
    )
    assert sent.to_dict()["skipped"] == 4
    assert str(Problem("changed", "a/b", "why")) == "changed: a/b (why)"
    assert str(Problem("missing", "a/b")) == "missing: a/b"
