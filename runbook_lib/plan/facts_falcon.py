"""Sizes of Falcon: 7B (one KV head), 40B and 180B (the new decoder), RW (plain attention)."""

from __future__ import annotations

from runbook_lib.plan.facts_dense import Attention
from runbook_lib.plan.facts_model import Layer, ModelFacts
from runbook_lib.plan.facts_reading import Sizes

__all__ = ["falcon"]

POSITIONS = 2048  # FalconConfig's default, which its config.json files leave out


def falcon(name: str, sizes: Sizes) -> ModelFacts:
    """Falcon: two-matrix MLP, layer norms with bias; the number of norms is the decoder's."""
    new = sizes.flag("new_decoder_architecture", default=False)
    attends, biased = _attention(sizes, new=new), sizes.flag("bias", default=False)
    hidden = attends.hidden
    inner = sizes.get("ffn_hidden_size", 4 * hidden)
    norms = _norms(sizes, new=new)
    biases = attends.biases(qkv=True, out=True) + inner + hidden
    one = Layer(
        split=attends.split + 2 * hidden * inner,
        keys=attends.key_values,
        plain=norms * 2 * hidden + biases * biased,
    )
    return ModelFacts(
        architecture=name,
        hidden=hidden,
        intermediate=inner,
        heads=attends.heads,
        kv_heads=attends.kv_heads,
        head_dim=attends.head_dim,
        vocab=sizes.get("vocab_size"),
        positions=sizes.get("max_position_embeddings", POSITIONS),
        tied=sizes.flag("tie_word_embeddings", default=True),
        stack=(one,) * sizes.layers(),
        rest=2 * hidden,
        stored=sizes.stored(),
    )


def _attention(sizes: Sizes, *, new: bool) -> Attention:
    """One KV head for all queries, or a number of them; the new decoder has always the latter."""
    hidden, heads = sizes.get("hidden_size"), sizes.get("num_attention_heads")
    shared = sizes.flag("multi_query", default=True) and not new
    kv_heads = 1 if shared else sizes.get("num_kv_heads", heads) if new else heads
    sizes.share("heads", "KV heads", heads, kv_heads)
    return Attention(hidden, heads, kv_heads, sizes.head_dim(hidden, heads))


def _norms(sizes: Sizes, *, new: bool) -> int:
    if new:
        return sizes.get("num_ln_in_parallel_attn", 2)
    return 1 if sizes.flag("parallel_attn", default=True) else 2
