"""Two engines compared: what the one is that the other is not."""

from __future__ import annotations

from dataclasses import dataclass

from runbook_lib.engine.identity import EngineFacts

__all__ = ["Difference", "differences"]

COMPARED = (
    *("version", "tensorrt", "sm", "architecture", "dtype", "quantization", "kv_cache_dtype"),
    *("kv_cache_type", "tp_size", "pp_size", "cp_size"),
)
GROUPS = ("limits", "plugins", "extras")


@dataclass(frozen=True)
class Difference:
    """One value that differs; None where an engine does not tell it."""

    name: str
    here: object
    there: object

    def __str__(self) -> str:
        told = (self.here, self.there)
        here, there = ("not told" if one is None or one == "" else one for one in told)
        return f"{self.name}: {here}, the other {there}"


def differences(here: EngineFacts, there: EngineFacts) -> list[Difference]:
    """What differs in identity; empty where one can stand for the other."""
    pairs = [(name, getattr(here, name), getattr(there, name)) for name in COMPARED]
    for group in GROUPS:
        one, other = getattr(here, group), getattr(there, group)
        names = sorted(one.keys() | other.keys())
        pairs += [(f"{group}.{name}", one.get(name), other.get(name)) for name in names]
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]
