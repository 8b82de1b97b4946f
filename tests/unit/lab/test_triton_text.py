"""Characters, stop words and bad words of the lab's engine model, without a server."""

from __future__ import annotations

import importlib.util
import random
import re
from pathlib import Path
from types import ModuleType

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import runbook_lib.lab


def _load(name: str) -> ModuleType:
    # The models run in Triton's own Python and are no part of the package.
    folder = Path(runbook_lib.lab.__file__).parent / "triton_models" / "tensorrt_llm"
    spec = importlib.util.spec_from_file_location(f"lab_model_{name}", folder / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


words, text_stream = _load("words"), _load("text_stream")


@pytest.fixture
def tokenizer(tmp_path: Path) -> tuple[Tokenizer, Path]:
    """Every byte a token, and one special token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["</s>"])
    made.save(str(tmp_path / "tokenizer.json"))
    return made, tmp_path / "tokenizer.json"


def test_every_byte_has_its_token_and_a_special_token_has_none(
    tokenizer: tuple[Tokenizer, Path],
) -> None:
    table = text_stream.token_bytes(tokenizer[1])
    assert sorted(table[:256]) == [bytes([byte]) for byte in range(256)]
    assert table[256] == b""


def test_text_decoded_at_open_gates_is_the_text_decoded_at_once(
    tokenizer: tuple[Tokenizer, Path],
) -> None:
    made, path = tokenizer
    table, numbers = text_stream.token_bytes(path), random.Random(7)
    held = 0
    valid = [table.index(bytes([byte])) for byte in "aé世🚀".encode()]
    for _ in range(300):
        tokens = [numbers.randrange(257) for _ in range(12)] + valid
        gate, parts, part = text_stream.CharacterGate(), [], []
        for token in tokens:
            part.append(token)
            if gate.closed_after(table[token]):
                parts.append(part)
                part = []
            else:
                held += 1
        parts.append(part)
        assert "".join(made.decode(one) for one in parts) == made.decode(tokens)
    assert held


def test_a_tokenizer_that_writes_no_bytes_is_refused(tmp_path: Path) -> None:
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="ByteLevel"):
        text_stream.token_bytes(tmp_path / "tokenizer.json")


def test_a_word_list_is_split_at_its_offsets() -> None:
    assert words.split_words([[5, 6, 7, 0], [2, 3, -1, -1]]) == [[5, 6], [7]]
    assert words.split_words([[], []]) == []


@pytest.mark.parametrize(
    ("word", "output", "at"),
    [
        ([0, 1], [0, 0, 1, 2], 3),
        ([3], [0, 1, 0], 2),
        ([2], [4, 0, 2], 1),
        ([0, 1], [1, 0, 0], None),
        ([5], [0, 5], 2),
    ],
)
def test_a_stop_word_ends_where_its_bytes_or_its_tokens_are_complete(
    word: list[int], output: list[int], at: int | None
) -> None:
    watch = words.StopWatch([word], [b"a", b"b", b"c", b"ab", b"xcx", b""])
    assert next((i for i, token in enumerate(output, 1) if watch.completes(token)), None) == at


@pytest.mark.parametrize(
    "bad", [["ab"], ["aab", "ba"], ["a", "世b"], ["abab", "bb"], ["ab", "abc", "世世"]]
)
def test_the_grammar_takes_exactly_the_texts_without_the_words(bad: list[str]) -> None:
    rules = _parsed(words.grammar_without(bad))
    numbers = random.Random(3)
    taken = 0
    for _ in range(2000):
        text = "".join(numbers.choice("abc世") for _ in range(numbers.randrange(9)))
        clean = not any(word in text for word in bad)
        assert _accepts(rules, text) == clean, text
        taken += clean
    assert 0 < taken < 2000


def _parsed(grammar: str) -> dict[str, list[tuple[str, str]]]:
    rules = {}
    for line in grammar.splitlines()[1:]:
        name, body = line.split(" ::= ")
        steps = body.encode().decode("unicode_escape").split(" | ")[1:]
        rules[name] = [tuple(step.rsplit(" ", 1)) for step in steps]
    return rules


def _accepts(rules: dict[str, list[tuple[str, str]]], text: str) -> bool:
    states = {"s0"}
    for character in text:
        states = {
            target
            for state in states
            for what, target in rules[state]
            if what == f'"{character}"'
            or (what[0] == "[" and re.fullmatch(what, character, re.DOTALL))
        }
    return bool(states)
