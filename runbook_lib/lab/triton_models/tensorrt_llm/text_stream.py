"""What bytes a token stands for, and which tokens may go out without breaking a character.

A byte-level token can end in the middle of a UTF-8 character. Sent by itself it would be decoded
as a replacement mark, so a stream holds such a token until the character is whole. A text then
reads the same streamed or in one piece, also when the model writes bytes that are no UTF-8.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from tokenizers import Tokenizer

__all__ = ["CharacterGate", "token_bytes"]


def token_bytes(tokenizer_file: Path) -> list[bytes]:
    """The bytes of every token id of a byte-level BPE tokenizer; special tokens have none.

    Raises:
        ValueError: the tokenizer does not write bytes (its decoder is not `ByteLevel`).
    """
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    if type(tokenizer.decoder).__name__ != "ByteLevel":
        raise ValueError("the tokenizer's decoder must be ByteLevel")
    table = _byte_of_character()
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return [
        b"" if i in special else _bytes_of(tokenizer.id_to_token(i) or "", table)
        for i in range(tokenizer.get_vocab_size())
    ]


class CharacterGate:
    """Tells after each token whether the text so far ends with a whole character."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def closed_after(self, data: bytes) -> bool:
        """Take the next token's bytes; true if no character is left open after them."""
        self._decoder.decode(data)
        return not self._decoder.getstate()[0]


def _bytes_of(token: str, table: dict[str, int]) -> bytes:
    # Added tokens are stored as plain text, which the decoder keeps as it is.
    if any(character not in table for character in token):
        return token.encode("utf-8")
    return bytes(table[character] for character in token)


def _byte_of_character() -> dict[str, int]:
    # GPT-2's table: printable Latin-1 stands for itself, the other bytes follow from U+0100.
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {chr(b): b for b in kept} | {chr(0x100 + i): b for i, b in enumerate(moved)}
