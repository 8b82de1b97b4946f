"""The size of a model: its parameters as ranks share them, and what it keeps of each token.

Shares are those of TensorRT-LLM: heads, MLP and output head are split over tensor-parallel ranks
(the vocabulary padded to a multiple of them), the input embedding is copied to each, layers go to
pipeline stages in turn with the larger ones first (`Mapping.pp_layers`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

__all__ = ["BYTES", "Layer", "ModelFacts"]

BYTES = {
    "float32": 4.0,
    "f32": 4.0,
    "float16": 2.0,
    "bfloat16": 2.0,
    "f16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "u8": 1.0,
    "nvfp4": 0.5 + 1 / 16,
}
# Bits of a quantised weight with its scales: AWQ and GPTQ keep a 16-bit scale for 128 weights, GPTQ
# a zero point as large, NVFP4 an 8-bit scale for 16, MXFP4 one for 32; the lab's int4 a 16-bit
# scale for 32.
BITS = {
    "int8_wo": 8.0,
    "int8_sq": 8.0,
    "fp8": 8.0,
    "int4_wo": 4.0,
    "int4_awq": 4 + 16 / 128,
    "w4a8_awq": 4 + 16 / 128,
    "int4_gptq": 4 + 32 / 128,
    "nvfp4": 4 + 8 / 16,
    "mxfp4": 4 + 8 / 32,
}
LAB_BITS = {"int8": 8.0, "int4": 4 + 16 / 32, "int4_awq": 4 + 16 / 32}
EXPERTS_ONLY = {"mxfp4"}  # as the checkpoints that come in it: attention stays as it was


@dataclass(frozen=True)
class Layer:
    """Parameters of one layer, by how ranks share them; matrices can be quantised, the rest can't.

    `split` is divided by the tensor-parallel ranks, `keys` (the K and V projections) by as many of
    them as there are KV heads, `copied` by none. `experts` of `expert` parameters each are divided,
    of which a token uses `active_experts`. `plain` and `expert_plain` (norms, biases, the router)
    are never quantised. `window` is the most tokens that the attention looks back to; None for all.
    """

    split: int
    keys: int = 0
    copied: int = 0
    plain: int = 0
    experts: int = 0
    active_experts: int = 0
    expert: int = 0
    expert_plain: int = 0
    window: int | None = None

    def parameters(self, experts: float | None = None) -> float:
        """Parameters with so many of the experts; by default all."""
        held = self.experts if experts is None else experts
        return (
            self.split
            + self.keys
            + self.copied
            + self.plain
            + held * (self.expert + self.expert_plain)
        )


@dataclass(frozen=True)
class ModelFacts:
    """The size of a model. Counts are parameters; dimensions are those of config.json.

    `intermediate` is the inner width of the widest MLP that a token passes (all its experts
    together). `latent` is the elements that multi-head latent attention keeps of a token, 0 without
    it. `stored` is the quantisation that the checkpoint comes in, `none` where it isn't quantised.
    """

    architecture: str
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    positions: int
    tied: bool
    stack: tuple[Layer, ...]
    rest: int
    head_bias: int = 0
    latent: int = 0
    stored: str = "none"

    @property
    def layers(self) -> int:
        """Decoder layers."""
        return len(self.stack)

    @property
    def embedding(self) -> int:
        """Parameters of the input embedding."""
        return self.vocab * self.hidden

    @property
    def head(self) -> int:
        """Parameters of the output head, whether tied or not."""
        return self.vocab * self.hidden + self.head_bias

    @property
    def experts(self) -> int:
        """Experts of a layer; 0 in a dense model."""
        return max((layer.experts for layer in self.stack), default=0)

    @property
    def parameters(self) -> int:
        """All parameters; a head tied to the embedding counts once."""
        return int(self._ends() + sum(layer.parameters() for layer in self.stack))

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: of the experts only those it is sent to."""
        return int(
            self._ends() + sum(layer.parameters(layer.active_experts) for layer in self.stack)
        )

    def _ends(self) -> int:
        head = self.head_bias if self.tied else self.head
        return self.embedding + head + self.rest

    def stages(self, pp: int) -> list[tuple[Layer, ...]]:
        """The layers of each pipeline stage; the first ones are the larger where they don't divide."""
        share, more = divmod(self.layers, pp)
        cuts = [share * stage + min(stage, more) for stage in range(pp + 1)]
        return [self.stack[low:high] for low, high in pairwise(cuts)]

    # -- KV cache ---------------------------------------------------------------------------------

    def cache_per_layer(self, tp: int = 1) -> int:
        """Elements that a layer keeps of one token on each rank: at least one KV head's.

        The latent of MLA has no heads, so each rank keeps all of it.
        """
        return self.latent or 2 * self.head_dim * max(1, -(-self.kv_heads // tp))

    def kv_bytes_per_token(self, kv_dtype: str, *, tp: int = 1, pp: int = 1) -> int:
        """Bytes that a rank of the fullest stage keeps of one token: 2 * layers * KV heads * head size."""
        layers = -(-self.layers // pp)
        return int(layers * self.cache_per_layer(tp) * BYTES[kv_dtype])

    def kv_bytes(
        self, tokens: int, kv_dtype: str, *, tp: int = 1, pp: int = 1, windows: bool = False
    ) -> int:
        """Bytes that a rank of the fullest stage keeps of a sequence of so many tokens.

        Args:
            tokens: length of the sequence, prompt and answer.
            kv_dtype: type of the keys and values.
            tp: tensor-parallel ranks.
            pp: pipeline stages.
            windows: whether layers of sliding-window attention keep only their window.
        """
        return max(
            int(
                self._kept(stage, tokens, windows=windows)
                * self.cache_per_layer(tp)
                * BYTES[kv_dtype]
            )
            for stage in self.stages(pp)
        )

    @staticmethod
    def _kept(stage: Sequence[Layer], tokens: int, *, windows: bool) -> int:
        if not windows:
            return tokens * len(stage)
        return sum(min(tokens, layer.window or tokens) for layer in stage)

    # -- weights ----------------------------------------------------------------------------------

    def in_force(self, quantization: str) -> str:
        """The quantisation of the weights: that of the checkpoint where none is asked for."""
        return self.stored if quantization == "none" else quantization

    def padded_vocab(self, tp: int) -> int:
        """The vocabulary as the output head holds it: padded to a multiple of the ranks."""
        return -(-self.vocab // tp) * tp

    def weight_bytes(
        self,
        dtype: str,
        quantization: str = "none",
        *,
        tp: int = 1,
        pp: int = 1,
        ep: int = 1,
        lab: bool = False,
    ) -> int:
        """Bytes of the weights on the fullest rank.

        TensorRT-LLM quantises the layers' matrices; embedding, head and router stay in `dtype`. The
        lab quantises the first two too.

        Args:
            dtype: type of what is not quantised.
            quantization: as in a profile, or `mxfp4`.
            tp: tensor-parallel ranks.
            pp: pipeline stages.
            ep: of the tensor-parallel ranks, how many groups hold different experts whole.
            lab: whether the lab's builder quantises.
        """
        share = self._share(dtype, quantization, tp=tp, ep=ep, lab=lab)
        outer = share.packed if lab else share.plain
        sizes = [_sum(share.held, stage) for stage in self.stages(pp)]
        if not (self.tied and tp == pp == 1):
            sizes[0] += self.embedding * outer
        sizes[-1] += self._head_share(tp) * outer + self.rest * share.plain
        return int(max(sizes))

    def read_bytes(
        self,
        dtype: str,
        quantization: str = "none",
        *,
        tokens: int = 1,
        tp: int = 1,
        pp: int = 1,
        ep: int = 1,
    ) -> int:
        """Bytes of the weights that the fullest rank reads in one step of so many tokens.

        Of the embedding it reads single rows, which count for nothing. Of the experts it reads
        those that some token is sent to: `E * (1 - (1 - k/E)^tokens)` expected where each token's
        `k` of `E` are drawn evenly.
        """
        share = self._share(dtype, quantization, tp=tp, ep=ep)
        read = partial(share.read, tokens=tokens)
        sizes = [_sum(read, stage) for stage in self.stages(pp)]
        sizes[-1] += (self._head_share(tp) + self.rest) * share.plain
        return int(max(sizes))

    def _head_share(self, tp: int) -> float:
        return (self.padded_vocab(tp) * self.hidden + self.head_bias) / tp

    def _share(
        self, dtype: str, quantization: str, *, tp: int, ep: int, lab: bool = False
    ) -> _Share:
        plain, used = BYTES[dtype], self.in_force(quantization)
        packed = plain if used == "none" else (LAB_BITS if lab else BITS)[used] / 8
        matrices = plain if used in EXPERTS_ONLY else packed
        return _Share(packed, matrices, plain, tp, min(tp, self.kv_heads), ep)


def _sum(of: Callable[[Layer], float], stage: Sequence[Layer]) -> float:
    """The sum over a stage's layers; most of them are one and the same, which is asked once."""
    once = {id(layer): layer for layer in stage}
    return sum(of(once[one]) * times for one, times in Counter(map(id, stage)).items())


@dataclass(frozen=True)
class _Share:
    """Bytes that one rank holds or reads of a layer.

    `packed`, `matrices` and `plain` are the bytes of a parameter of the experts, of the other
    matrices, and of what isn't quantised; the layer is split over `tp` ranks, its keys and values
    over `keys` of them, its experts in `ep` groups.
    """

    packed: float
    matrices: float
    plain: float
    tp: int
    keys: int
    ep: int

    def held(self, layer: Layer) -> float:
        """Bytes of the weights; the fullest group of experts counts where they don't divide."""
        return self._common(layer) + self._experts(layer, -(-layer.experts // self.ep) * self.ep)

    def read(self, layer: Layer, tokens: int) -> float:
        """Bytes of the weights that so many tokens need."""
        if not layer.experts:
            return self._common(layer)
        idle = (1 - layer.active_experts / layer.experts) ** tokens
        return self._common(layer) + self._experts(layer, layer.experts * (1 - idle))

    def _common(self, layer: Layer) -> float:
        matrices = layer.split / self.tp + layer.keys / self.keys + layer.copied
        return matrices * self.matrices + layer.plain * self.plain

    def _experts(self, layer: Layer, count: float) -> float:
        one = layer.expert * self.packed + layer.expert_plain * self.plain
        return count / self.tp * one
