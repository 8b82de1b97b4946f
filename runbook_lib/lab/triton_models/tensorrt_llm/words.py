"""Stop words and bad words: from TensorRT-LLM's word-list matrix to what the engine needs.

Stop words: generation ends as soon as a word is complete, and the word stays in the output, as
TensorRT-LLM's executor leaves it. TensorRT-LLM compares token ids only; here a word is also found
when the model spells it with other tokens, by its bytes.

Bad words: openvino_genai has no such option, but its structured output masks every token that
would leave a grammar. The grammar written here accepts exactly the texts that hold none of the
words, so a bad word can't appear however it is split into tokens. Log probabilities then are
those after the mask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["StopWatch", "grammar_without", "split_words"]

LAST = 0x10FFFF
"""The last Unicode code point."""


def split_words(matrix: Sequence[Sequence[int]]) -> list[list[int]]:
    """The token sequences in a `[2, n]` word list: ids above, end offsets below (-1: none)."""
    tokens, offsets = matrix
    ends = [end for end in offsets if end > 0]
    return [list(tokens[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


class StopWatch:
    """Watches one output and tells when a stop word is complete."""

    def __init__(self, words: Sequence[Sequence[int]], vocabulary: Sequence[bytes]) -> None:
        self._vocabulary = vocabulary
        self._sequences = [list(word) for word in words]
        joined = [b"".join(vocabulary[token] for token in word) for word in words]
        self._texts = [text for text in joined if text]
        self._longest = max((len(text) for text in self._texts), default=0)
        self._most = max((len(word) for word in words), default=0)
        self._tail = b""
        self._recent: list[int] = []

    def completes(self, token: int) -> bool:
        """Take the next token; true if a word ends within it."""
        data = self._vocabulary[token]
        window = self._tail + data
        self._tail = window[-(self._longest - 1) :] if self._longest > 1 else b""
        self._recent = [*self._recent, token][-self._most :]
        if any(text in window for text in self._texts):
            return True
        return any(self._recent[-len(word) :] == word for word in self._sequences)


def grammar_without(words: Sequence[str]) -> str:
    """An EBNF grammar (xgrammar's dialect) of every text that holds none of `words`.

    One rule a state of the Aho-Corasick automaton over characters; a character that would
    complete a word has no rule to go to, and the text may end in any state.

    Args:
        words: the words, none of them empty.
    """
    children, link, final = _automaton(words)
    alphabet = sorted({character for word in words for character in word})
    rules = ["root ::= s0"]
    for state in range(len(children)):
        if final[state]:
            continue
        targets = {c: _follow(children, link, state, c) for c in alphabet}
        steps = [f'"{_escaped(c)}" s{t}' for c, t in targets.items() if t and not final[t]]
        rest = _all_but({c for c, t in targets.items() if t})
        rules.append(f"s{state} ::= " + " | ".join(['""', *steps, f"[{rest}] s0"]))
    return "\n".join(rules)


def _automaton(words: Sequence[str]) -> tuple[list[dict[str, int]], list[int], list[bool]]:
    children: list[dict[str, int]] = [{}]
    final = [False]
    for word in words:
        state = 0
        for character in word:
            if character not in children[state]:
                children[state][character] = len(children)
                children.append({})
                final.append(False)
            state = children[state][character]
        final[state] = True
    link = [0] * len(children)
    queue = deque(children[0].values())
    while queue:
        state = queue.popleft()
        final[state] = final[state] or final[link[state]]
        for character, child in children[state].items():
            link[child] = _follow(children, link, link[state], character) if state else 0
            queue.append(child)
    return children, link, final


def _follow(children: list[dict[str, int]], link: list[int], state: int, character: str) -> int:
    while state and character not in children[state]:
        state = link[state]
    return children[state].get(character, 0)


def _all_but(excluded: set[str]) -> str:
    # Ranges, since xgrammar takes only ASCII in a negated class.
    bounds = [-1, *sorted(ord(character) for character in excluded), LAST + 1]
    spans = [(low + 1, high - 1) for low, high in pairwise(bounds) if high - low > 1]
    return "".join(f"{_escaped(chr(low))}-{_escaped(chr(high))}" for low, high in spans)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\U{code:08X}" if code > 0xFFFF else f"\\u{code:04X}"
