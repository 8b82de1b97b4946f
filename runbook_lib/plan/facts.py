"""What a model's config.json says about its size: parameters, weights and KV cache, exactly.

The counts follow the architectures' layers as Hugging Face's `transformers` defines them: Llama
(and Mistral, the same layers) and Phi.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.errors import PlanError

__all__ = ["ModelFacts", "known_config", "model_facts"]

DATA = Path(__file__).resolve().parent / "models.json"
LARGEST = 2**31  # no dimension of a model comes near
BYTES = {
    "float32": 4.0,
    "f32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    "f16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "u8": 1.0,
}
# Bits of a quantised weight with its scales: AWQ and GPTQ keep a 16-bit scale for 128 weights, GPTQ
# a zero point as large, NVFP4 an 8-bit scale for 16; the lab's int4 a 16-bit scale for 32.
BITS = {
    "int8_wo": 8.0,
    "int8_sq": 8.0,
    "fp8": 8.0,
    "int4_wo": 4.0,
    "int4_awq": 4 + 16 / 128,
    "w4a8_awq": 4 + 16 / 128,
    "int4_gptq": 4 + 32 / 128,
    "nvfp4": 4 + 8 / 16,
}
LAB_BITS = {"int8": 8.0, "int4": 4 + 16 / 32, "int4_awq": 4 + 16 / 32}


@dataclass(frozen=True)
class ModelFacts:
    """The size of a model. Counts are parameters; dimensions are those of config.json."""

    architecture: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    positions: int
    tied: bool
    embedding: int
    head: int
    matrices_per_layer: int
    rest_per_layer: int
    rest: int

    @property
    def parameters(self) -> int:
        """All parameters; a head tied to the embedding counts once."""
        head = 0 if self.tied else self.head
        return (
            self.embedding
            + head
            + self.rest
            + self.layers * (self.matrices_per_layer + self.rest_per_layer)
        )

    def kv_bytes_per_token(self, kv_dtype: str, *, tp: int = 1, pp: int = 1) -> int:
        """Bytes of the keys and values of one token on each rank: 2 * layers * KV heads * head size.

        A rank holds at least one KV head, and the larger share where layers don't divide.
        """
        layers, kv_heads = -(-self.layers // pp), max(1, -(-self.kv_heads // tp))
        return int(2 * layers * kv_heads * self.head_dim * BYTES[kv_dtype])

    def weight_bytes(
        self, dtype: str, quantization: str = "none", *, tp: int = 1, pp: int = 1, lab: bool = False
    ) -> int:
        """Bytes of the weights on the fullest rank.

        TensorRT-LLM quantises the layers' matrices; embedding and head stay in `dtype`. The lab
        quantises those too.
        """
        plain = BYTES[dtype]
        packed = plain if quantization == "none" else (LAB_BITS if lab else BITS)[quantization] / 8
        outer = packed if lab else plain
        layers = -(-self.layers // pp)
        body = layers * (self.matrices_per_layer / tp * packed + self.rest_per_layer * plain)
        shared = self.tied and tp == pp == 1
        ends = [self.embedding * outer, 0.0 if shared else self.head / tp * outer]
        return int(body + (sum(ends) if pp == 1 else max(ends)) + self.rest * plain)


def known_config(model_name: str) -> dict[str, Any]:
    """The config.json facts of a model that is known by name.

    Raises:
        PlanError: it is not; the known names are given.
    """
    models = json.loads(DATA.read_bytes())["models"]
    if model_name in models:
        return dict(models[model_name]["config"])
    near = difflib.get_close_matches(model_name, models, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise PlanError(
        f"The size of {model_name!r} is not known here.",
        why=f"Known by name: {', '.join(models)}.",
        fix=f"{meant}`weights` may name a folder that holds the model's config.json.",
        page="00_plan",
    )


def model_facts(config: Mapping[str, Any]) -> ModelFacts:
    """The facts of a Hugging Face config.json.

    Raises:
        PlanError: the architecture is unknown, or a key is missing or can't be; all at once.
    """
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    if name not in FAMILIES:
        raise PlanError(
            f"The architecture {name or 'of this config.json'!r} is not known to the planner.",
            why=f"It knows {', '.join(FAMILIES)}.",
            fix="Check `architectures` in the model's config.json.",
        )
    return FAMILIES[name](name, _Sizes(config))


class _Sizes:
    """Reads a config's whole numbers, and gathers what is wrong about them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.problems: list[str] = []

    def get(self, key: str, default: int | None = None) -> int:
        """A dimension; 1 where it is wrong, so that reading goes on to the next problem."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not 0 < value < LARGEST:
            self.problems.append(f"{key} is {'missing' if value is None else repr(value)}")
            return 1
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """A switch of the config."""
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            self.problems.append(f"{key} is {value!r}, not true or false")
        return bool(value)

    def check(self, *, heads: int, kv_heads: int) -> None:
        """End with every problem found, if there is one."""
        if heads % kv_heads:
            self.problems.append(f"{heads} heads can't share {kv_heads} KV heads evenly")
        if self.problems:
            raise PlanError(
                f"This config.json can't be planned with: {len(self.problems)} problem(s).",
                why="; ".join(self.problems),
                fix="Take the config.json that came with the weights.",
            )


def _llama(name: str, sizes: _Sizes) -> ModelFacts:
    hidden, inner, heads = (
        sizes.get("hidden_size"),
        sizes.get("intermediate_size"),
        sizes.get("num_attention_heads"),
    )
    kv_heads = sizes.get("num_key_value_heads", heads)
    if "head_dim" not in sizes.config and hidden % heads:
        sizes.problems.append(f"hidden_size {hidden} can't be split into {heads} heads")
    head_dim, vocab = sizes.get("head_dim", hidden // heads or 1), sizes.get("vocab_size")
    queries, keys = heads * head_dim, kv_heads * head_dim
    biases = (queries + 2 * keys + hidden) * sizes.flag("attention_bias", default=False)
    biases += (2 * inner + hidden) * sizes.flag("mlp_bias", default=False)
    facts = ModelFacts(
        architecture=name,
        layers=sizes.get("num_hidden_layers"),
        hidden=hidden,
        intermediate=inner,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        positions=sizes.get("max_position_embeddings"),
        tied=sizes.flag("tie_word_embeddings", default=False),
        embedding=vocab * hidden,
        head=vocab * hidden,
        matrices_per_layer=2 * hidden * (queries + keys) + 3 * hidden * inner,
        rest_per_layer=2 * hidden + biases,
        rest=hidden,
    )
    sizes.check(heads=heads, kv_heads=kv_heads)
    return facts


def _phi(name: str, sizes: _Sizes) -> ModelFacts:
    hidden, inner, heads = (
        sizes.get("hidden_size"),
        sizes.get("intermediate_size"),
        sizes.get("num_attention_heads"),
    )
    kv_heads, vocab = sizes.get("num_key_value_heads", heads), sizes.get("vocab_size")
    if hidden % heads:
        sizes.problems.append(f"hidden_size {hidden} can't be split into {heads} heads")
    head_dim = hidden // heads or 1
    keys = kv_heads * head_dim
    facts = ModelFacts(
        architecture=name,
        layers=sizes.get("num_hidden_layers"),
        hidden=hidden,
        intermediate=inner,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab=vocab,
        positions=sizes.get("max_position_embeddings"),
        tied=sizes.flag("tie_word_embeddings", default=False),
        embedding=vocab * hidden,
        head=vocab * hidden + vocab,
        matrices_per_layer=2 * hidden * (hidden + keys) + 2 * hidden * inner,
        rest_per_layer=(2 * hidden + 2 * keys) + (inner + hidden) + 2 * hidden,
        rest=2 * hidden,
    )
    sizes.check(heads=heads, kv_heads=kv_heads)
    return facts


FAMILIES: dict[str, Callable[[str, _Sizes], ModelFacts]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _llama,
    "PhiForCausalLM": _phi,
}
