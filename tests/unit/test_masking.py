"""What looks like a secret goes no further; what only looks like one to a hasty pattern stays."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.masking import MASK, mask_secrets

SECRETS = (
    ("key AKIAIOSFODNN7EXAMPLE of x", "AKIAIOSFODNN7EXAMPLE"),
    ("login with hf_" + "aB3" * 12, "hf_" + "aB3" * 12),
    ("nvapi-" + "x1_-" * 10, "nvapi-" + "x1_-" * 10),
    ("AIza" + "b" * 35, "AIza" + "b" * 35),
    ("token ghp_" + "c" * 36, "ghp_" + "c" * 36),
    ("github_pat_" + "d" * 30, "github_pat_" + "d" * 30),
    ("xoxb-1234567890-abc", "xoxb-1234567890-abc"),
    ("sk-" + "e" * 40, "sk-" + "e" * 40),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJhbGciOiJIUzI1NiJ9"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----", "MIIEvQ"),
    ("s3 https://user:hunter2!@host/path", "hunter2!"),
    ("Authorization: Bearer abcdefgh", "abcdefgh"),
    ('{"Authorization": "Basic dXNlcjpwYXNz"}', "dXNlcjpwYXNz"),
    ("curl -H 'bearer 0123456789abcdef0'", "0123456789abcdef0"),
    ("GET /x?X-Amz-Signature=0123abcd4567&y=1", "0123abcd4567"),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
    ('"password": "hunter2hunter2"', "hunter2hunter2"),
    ("HF_TOKEN: abcdefgh", "abcdefgh"),
    ("AccountKey=abcdef0123456789==", "abcdef0123456789"),
)
HARMLESS = (
    "MAX_NUM_TOKENS=131072 and max_tokens: 4096",
    "tokenizer_dir: /models/tokenizer",
    "https://host:8080/path@v2",
    'secret "store-keys" not found',
    "password: null",
    "AWS_SECRET_ACCESS_KEY=$FROM_ENV",
    "the bearer of this is unknown",
    "sha256:0123456789abcdef0123456789abcdef",
)


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_secret_is_taken_out_and_what_stands_around_it_stays(text, secret):
    found = mask_secrets(text)
    assert secret not in found
    assert MASK in found


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text):
    assert mask_secrets(text) == text


@pytest.mark.parametrize(("text", "_"), SECRETS)
def test_masking_again_changes_nothing(text, _):
    assert mask_secrets(mask_secrets(text)) == mask_secrets(text)


@given(st.text(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_text_can_be_masked(text):
    mask_secrets(text)


@pytest.mark.parametrize("part", ["a://", "secret", "eyJ", "-----BEGIN ", "password=", "sk-", "k_"])
def test_a_hostile_text_costs_little(part):
    began = time.process_time()
    mask_secrets(part * (200_000 // len(part)))
    assert time.process_time() - began < 3
