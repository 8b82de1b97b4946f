"""Sizes of dense decoders with grouped-query attention: Llama, Mistral, Qwen, Gemma, Phi.

The tensors are those of the same classes in Hugging Face's `transformers`.
"""

from __future__ import annotations

from dataclasses import dataclass

from runbook_lib.plan.facts_model import Layer, ModelFacts
from runbook_lib.plan.facts_reading import Sizes, with_windows, without_windows

__all__ = ["Attention", "attention", "dense", "gemma", "llama", "phi", "phi3", "qwen"]

# Gemma's config.json leaves out what is the class's default: those of Gemma3TextConfig.
GEMMA_3 = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
}


@dataclass(frozen=True)
class Attention:
    """The sizes of grouped-query attention, and the parameters of its projections in one layer."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def queries(self) -> int:
        """Width of all queries."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all keys, which is that of all values."""
        return self.kv_heads * self.head_dim

    @property
    def split(self) -> int:
        """Parameters of the query and output projections."""
        return 2 * self.hidden * self.queries

    @property
    def key_values(self) -> int:
        """Parameters of the key and value projections."""
        return 2 * self.hidden * self.keys

    def biases(self, *, qkv: bool, out: bool) -> int:
        """Parameters of the projections' biases."""
        return (self.queries + 2 * self.keys) * qkv + self.hidden * out


def attention(
    sizes: Sizes,
    *,
    heads: int | None = None,
    kv_heads: int | None = None,
    head_dim: int | None = None,
) -> Attention:
    """Grouped-query attention as config.json states it; the arguments are the class's defaults."""
    hidden, held = sizes.get("hidden_size"), sizes.get("num_attention_heads", heads)
    keys = sizes.get("num_key_value_heads", kv_heads or held)
    sizes.share("heads", "KV heads", held, keys)
    return Attention(hidden, held, keys, sizes.head_dim(hidden, held, head_dim))


def dense(
    name: str,
    sizes: Sizes,
    attends: Attention,
    *,
    plain: int,
    matrices: int = 3,
    tied: bool = False,
    every: int | None = None,
    rest: int | None = None,
    head_bias: int = 0,
    vocab: int | None = None,
    positions: int | None = None,
) -> ModelFacts:
    """A dense model of equal layers.

    Args:
        name: the architecture.
        sizes: the config.
        attends: its attention.
        plain: norms and biases of one layer.
        matrices: of the MLP, 3 where it is gated.
        tied: whether the head is the embedding where the config doesn't say.
        every: each how-many-th layer looks at all tokens, where there is a window.
        rest: parameters beside layers, embedding and head; by default one norm.
        head_bias: parameters of the head's bias.
        vocab: default of the class.
        positions: default of the class.
    """
    inner, layers = sizes.get("intermediate_size"), sizes.layers()
    one = Layer(
        split=attends.split + matrices * attends.hidden * inner,
        keys=attends.key_values,
        plain=plain,
    )
    return ModelFacts(
        architecture=name,
        hidden=attends.hidden,
        intermediate=inner,
        heads=attends.heads,
        kv_heads=attends.kv_heads,
        head_dim=attends.head_dim,
        vocab=sizes.get("vocab_size", vocab),
        positions=sizes.get("max_position_embeddings", positions),
        tied=sizes.flag("tie_word_embeddings", default=tied),
        stack=with_windows([one] * layers, sizes.windows(layers, every=every)),
        rest=attends.hidden if rest is None else rest,
        head_bias=head_bias,
        stored=sizes.stored(),
    )


def llama(name: str, sizes: Sizes) -> ModelFacts:
    """Llama and Mistral: gated MLP, two norms, biases only where the config asks for them."""
    attends = attention(sizes)
    biased = sizes.flag("attention_bias", default=False)
    plain = 2 * attends.hidden + attends.biases(qkv=biased, out=biased)
    if sizes.flag("mlp_bias", default=False):
        plain += 2 * sizes.get("intermediate_size") + attends.hidden
    return dense(name, sizes, attends, plain=plain)


def qwen(name: str, sizes: Sizes) -> ModelFacts:
    """Qwen2 (biased queries, keys and values) and Qwen3 (a norm of each query and key head)."""
    attends = attention(sizes, head_dim=128 if name.startswith("Qwen3") else None)
    plain = 2 * attends.hidden + qwen_attention(name, sizes, attends)
    made = dense(name, sizes, attends, plain=plain)
    if sizes.flag("use_sliding_window", default=False):
        return made
    return without_windows(made)


def qwen_attention(name: str, sizes: Sizes, attends: Attention) -> int:
    """Biases and norms of one layer's attention."""
    if name.startswith("Qwen3"):
        biased = sizes.flag("attention_bias", default=False)
        return 2 * attends.head_dim + attends.biases(qkv=biased, out=biased)
    return attends.biases(qkv=True, out=False)


def gemma(name: str, sizes: Sizes) -> ModelFacts:
    """Gemma 1 to 3: heads of their own size, tied head; 2 and 3 have four norms and windows."""
    first, third = name == "GemmaForCausalLM", name.startswith("Gemma3")
    known = GEMMA_3 if third else {}
    attends = attention(
        sizes,
        heads=known.get("num_attention_heads"),
        kv_heads=known.get("num_key_value_heads"),
        head_dim=known.get("head_dim", 256),
    )
    plain = (2 if first else 4) * attends.hidden + 2 * attends.head_dim * third
    return dense(
        name,
        sizes,
        attends,
        plain=plain,
        tied=True,
        every=sizes.get("sliding_window_pattern", 6) if third else 2,
        vocab=known.get("vocab_size"),
        positions=known.get("max_position_embeddings"),
    )


def phi(name: str, sizes: Sizes) -> ModelFacts:
    """Phi 1 and 2: biases everywhere, one norm a layer, an MLP of two matrices."""
    attends = attention(sizes)
    inner, hidden = sizes.get("intermediate_size"), attends.hidden
    plain = attends.biases(qkv=True, out=True) + inner + hidden + 2 * hidden
    bias = sizes.get("vocab_size")
    return dense(name, sizes, attends, plain=plain, matrices=2, rest=2 * hidden, head_bias=bias)


def phi3(name: str, sizes: Sizes) -> ModelFacts:
    """Phi 3 and 4: Llama's layers with the projections kept in one matrix."""
    attends = attention(sizes)
    return dense(name, sizes, attends, plain=2 * attends.hidden)
