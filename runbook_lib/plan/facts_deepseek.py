"""Sizes of DeepSeek V2 and V3 (and R1): multi-head latent attention over a mixture of experts.

The multi-token-prediction layer that V3's checkpoint also holds is not counted: it isn't run
unless speculative decoding is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from runbook_lib.plan.facts_model import Layer, ModelFacts
from runbook_lib.plan.facts_reading import Sizes

__all__ = ["deepseek"]


@dataclass(frozen=True)
class _Latent:
    """Sizes of multi-head latent attention."""

    hidden: int
    heads: int
    latent: int
    rope: int
    head: int
    value: int
    query_latent: int

    @property
    def split(self) -> int:
        """Parameters of the projections up from the latents, and of the output's."""
        wide = self.query_latent or self.hidden
        queries = wide * self.heads * (self.head + self.rope)
        return (
            queries
            + self.latent * self.heads * (self.head + self.value)
            + self.heads * self.value * self.hidden
        )

    @property
    def copied(self) -> int:
        """Parameters of the projections down to the latents, which every rank holds whole."""
        return self.hidden * (self.query_latent + self.latent + self.rope)

    @property
    def norms(self) -> int:
        """Parameters of the latents' norms."""
        return self.query_latent + self.latent


def deepseek(name: str, sizes: Sizes) -> ModelFacts:
    """DeepSeek V2 and V3: the first layers dense, then routed and shared experts."""
    latent, layers = _latent(sizes), sizes.layers()
    hidden, moe = latent.hidden, sizes.get("moe_intermediate_size")
    experts, shared = sizes.get("n_routed_experts"), sizes.get("n_shared_experts", 0, least=0)
    chosen, inner = sizes.get("num_experts_per_tok"), sizes.get("intermediate_size")
    if chosen > experts:
        sizes.problems.append(f"num_experts_per_tok is {chosen}, and there are {experts} experts")
    plain = 2 * hidden + latent.norms
    correction = experts if name == "DeepseekV3ForCausalLM" else 0
    dense = Layer(split=latent.split + 3 * hidden * inner, copied=latent.copied, plain=plain)
    sparse = Layer(
        split=latent.split + 3 * hidden * moe * shared,
        copied=latent.copied,
        plain=plain + hidden * experts + correction,
        experts=experts,
        active_experts=min(chosen, experts),
        expert=3 * hidden * moe,
    )
    first, every = sizes.get("first_k_dense_replace", 0, least=0), sizes.get("moe_layer_freq", 1)
    return ModelFacts(
        architecture=name,
        hidden=hidden,
        intermediate=max(inner if first else 0, (chosen + shared) * moe),
        heads=latent.heads,
        kv_heads=latent.heads,
        head_dim=latent.head + latent.rope,
        vocab=sizes.get("vocab_size"),
        positions=sizes.get("max_position_embeddings"),
        tied=sizes.flag("tie_word_embeddings", default=False),
        stack=tuple(sparse if at >= first and at % every == 0 else dense for at in range(layers)),
        rest=hidden,
        latent=latent.latent + latent.rope,
        stored=sizes.stored(),
    )


def _latent(sizes: Sizes) -> _Latent:
    queries = sizes.config.get("q_lora_rank")
    return _Latent(
        hidden=sizes.get("hidden_size"),
        heads=sizes.get("num_attention_heads"),
        latent=sizes.get("kv_lora_rank"),
        rope=sizes.get("qk_rope_head_dim"),
        head=sizes.get("qk_nope_head_dim"),
        value=sizes.get("v_head_dim"),
        query_latent=0 if queries is None else sizes.get("q_lora_rank"),
    )
