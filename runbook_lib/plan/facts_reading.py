"""Reads the sizes of a config.json, and gathers everything that is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from runbook_lib.errors import PlanError
from runbook_lib.plan.facts_model import BITS, Layer, ModelFacts

__all__ = ["Sizes", "shown", "with_windows", "without_windows"]

LARGEST = 2**31  # no dimension of a model comes near
MOST_LAYERS = 1024  # nor any number of layers
MOST_SHOWN = 60


class Sizes:
    """A config's numbers and switches; `check` ends with every problem that reading met."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.problems: list[str] = []

    def get(
        self, key: str, default: int | None = None, *, least: int = 1, most: int = LARGEST
    ) -> int:
        """A whole number; `least` (or 1) where it is wrong, so that reading goes on."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not least <= value < most:
            self.problems.append(f"{key} is {'missing' if value is None else shown(value)}")
            return max(least, 1)
        return value

    def layers(self, default: int | None = None) -> int:
        """Number of decoder layers."""
        return self.get("num_hidden_layers", default, most=MOST_LAYERS)

    def flag(self, key: str, *, default: bool) -> bool:
        """A switch of the config."""
        value = self.config.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.problems.append(f"{key} is {shown(value)}, not true or false")
        return bool(value)

    def head_dim(self, hidden: int, heads: int, default: int | None = None) -> int:
        """Size of a head: as stated, else an even share of the hidden size."""
        if self.config.get("head_dim") is None and default is None and hidden % heads:
            self.problems.append(f"hidden_size {hidden} can't be split into {heads} heads")
        return self.get("head_dim", default or hidden // heads or 1)

    def indices(self, key: str) -> frozenset[int]:
        """A list of layers by number; empty where there is none."""
        value = self.config.get(key)
        if value is None:
            return frozenset()
        if not isinstance(value, list) or any(type(one) is not int for one in value):
            self.problems.append(f"{key} is {shown(value)}, not a list of layers")
            return frozenset()
        return frozenset(value)

    def windows(self, layers: int, *, every: int | None = None) -> list[int | None]:
        """The window of each layer, by `layer_types`; else every `every`-th looks at all tokens.

        Args:
            layers: number of layers.
            every: None where all layers have the window that `sliding_window` states.
        """
        window = None if self.config.get("sliding_window") is None else self.get("sliding_window")
        kinds = self.config.get("layer_types")
        if window is None:
            return [None] * layers
        if kinds is None:
            return [window if every is None or (at + 1) % every else None for at in range(layers)]
        known = {"sliding_attention": window, "full_attention": None}
        if not isinstance(kinds, list) or len(kinds) != layers:
            self.problems.append(f"layer_types is no list of {layers} kinds")
            return [None] * layers
        odd = [one for one in kinds if not isinstance(one, str) or one not in known]
        if odd:
            self.problems.append(f"layer_types has {shown(odd[0])}")
            return [None] * layers
        return [known[kind] for kind in kinds]

    def stored(self) -> str:
        """The quantisation that the checkpoint comes in, `none` without one."""
        value = self.config.get("quantization_config")
        if value is None:
            return "none"
        method = value.get("quant_method") if isinstance(value, Mapping) else None
        word = (
            {"awq": "int4_awq", "gptq": "int4_gptq"}.get(method, method)
            if isinstance(method, str)
            else None
        )
        if word not in BITS:
            self.problems.append(
                f"quantization_config says {shown(method)}, which has no known size"
            )
            return "none"
        return str(word)

    def share(self, whole: str, parts: str, size: int, by: int) -> None:
        """Note where `by` parts can't share `size` evenly."""
        if size % by:
            self.problems.append(f"{size} {whole} can't share {by} {parts} evenly")

    def check(self) -> None:
        """End with every problem found, if there is one.

        Raises:
            PlanError: all of them.
        """
        if self.problems:
            raise PlanError(
                f"This config.json can't be planned with: {len(self.problems)} problem(s).",
                why="; ".join(self.problems),
                fix="Take the config.json that came with the weights.",
            )


def shown(value: object) -> str:
    """A wrong value, cut where it is long."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 1] + "…"


def with_windows(layers: Sequence[Layer], windows: Sequence[int | None]) -> tuple[Layer, ...]:
    """The layers, each with its window."""
    made = {
        (id(layer), window): replace(layer, window=window)
        for layer, window in zip(layers, windows, strict=True)
    }
    return tuple(made[id(layer), window] for layer, window in zip(layers, windows, strict=True))


def without_windows(made: ModelFacts) -> ModelFacts:
    """The model with attention to all tokens in every layer: a window may be stated but not used."""
    return replace(made, stack=with_windows(made.stack, [None] * made.layers))
