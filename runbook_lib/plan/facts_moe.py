"""Sizes of mixtures of experts with grouped-query attention: Mixtral, Qwen MoE, GPT-OSS."""

from __future__ import annotations

from runbook_lib.plan.facts_dense import Attention, attention, qwen_attention
from runbook_lib.plan.facts_model import Layer, ModelFacts
from runbook_lib.plan.facts_reading import Sizes, with_windows, without_windows

__all__ = ["gpt_oss", "mixtral", "qwen_moe"]


def _facts(
    name: str,
    sizes: Sizes,
    attends: Attention,
    layers: list[Layer],
    *,
    intermediate: int,
    every: int | None = None,
) -> ModelFacts:
    return ModelFacts(
        architecture=name,
        hidden=attends.hidden,
        intermediate=intermediate,
        heads=attends.heads,
        kv_heads=attends.kv_heads,
        head_dim=attends.head_dim,
        vocab=sizes.get("vocab_size"),
        positions=sizes.get("max_position_embeddings"),
        tied=sizes.flag("tie_word_embeddings", default=False),
        stack=with_windows(layers, sizes.windows(len(layers), every=every)),
        rest=attends.hidden,
        stored=sizes.stored(),
    )


def _chosen(sizes: Sizes, key: str, experts: int, default: int | None = None) -> int:
    chosen = sizes.get(key, default)
    if chosen > experts:
        sizes.problems.append(f"{key} is {chosen}, and there are {experts} experts")
    return min(chosen, experts)


def mixtral(name: str, sizes: Sizes) -> ModelFacts:
    """Mixtral: every layer's MLP is a mixture, and nothing has a bias."""
    attends, hidden = attention(sizes), sizes.get("hidden_size")
    experts, inner = sizes.get("num_local_experts"), sizes.get("intermediate_size")
    chosen = _chosen(sizes, "num_experts_per_tok", experts)
    one = Layer(
        split=attends.split,
        keys=attends.key_values,
        plain=2 * hidden + hidden * experts,
        experts=experts,
        active_experts=chosen,
        expert=3 * hidden * inner,
    )
    return _facts(name, sizes, attends, [one] * sizes.layers(), intermediate=chosen * inner)


def qwen_moe(name: str, sizes: Sizes) -> ModelFacts:
    """Qwen2 MoE (one shared expert behind a gate) and Qwen3 MoE; some layers may be dense."""
    attends = attention(sizes, head_dim=128 if name.startswith("Qwen3") else None)
    hidden, inner, layers = attends.hidden, sizes.get("moe_intermediate_size"), sizes.layers()
    shared = 0 if name.startswith("Qwen3") else sizes.get("shared_expert_intermediate_size")
    experts = sizes.get("num_experts")
    chosen = _chosen(sizes, "num_experts_per_tok", experts)
    plain = 2 * hidden + qwen_attention(name, sizes, attends)
    sparse = Layer(
        split=attends.split + 3 * hidden * shared,
        keys=attends.key_values,
        plain=plain + hidden * experts + hidden * bool(shared),
        experts=experts,
        active_experts=chosen,
        expert=3 * hidden * inner,
    )
    step, only = sizes.get("decoder_sparse_step", 1), sizes.indices("mlp_only_layers")
    mixed = [at not in only and (at + 1) % step == 0 for at in range(layers)]
    widest = wide = chosen * inner + shared
    dense = sparse
    if not all(mixed):
        widest = max(wide, whole := sizes.get("intermediate_size"))
        split = attends.split + 3 * hidden * whole
        dense = Layer(split=split, keys=attends.key_values, plain=plain)
    stack = [sparse if mixture else dense for mixture in mixed]
    made = _facts(name, sizes, attends, stack, intermediate=widest)
    return made if sizes.flag("use_sliding_window", default=False) else without_windows(made)


def gpt_oss(name: str, sizes: Sizes) -> ModelFacts:
    """GPT-OSS: biases everywhere, a sink for each head, every other layer with a window."""
    attends, hidden = attention(sizes, head_dim=64), sizes.get("hidden_size")
    experts, inner = sizes.get("num_local_experts"), sizes.get("intermediate_size")
    chosen = _chosen(sizes, "num_experts_per_tok", experts)
    norms = 2 * hidden + attends.heads
    router = hidden * experts + experts
    one = Layer(
        split=attends.split,
        keys=attends.key_values,
        plain=norms + router + attends.biases(qkv=True, out=True),
        experts=experts,
        active_experts=chosen,
        expert=3 * hidden * inner,
        expert_plain=2 * inner + hidden,
    )
    stack = [one] * sizes.layers()
    return _facts(name, sizes, attends, stack, intermediate=chosen * inner, every=2)
