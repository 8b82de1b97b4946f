"""The engine's load on Triton's metrics page, under the names of the TensorRT-LLM backend."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import triton_python_backend_utils as pb_utils
from engine_loop import Load

__all__ = ["Gauges"]

TOKENS_PER_BLOCK = 32
"""Of openvino_genai's paged KV cache on a CPU."""

_FAMILIES = {
    "nv_trt_llm_request_metrics": (
        "TRT LLM request metrics",
        "request_type",
        ("active", "max", "scheduled", "context", "waiting"),
    ),
    "nv_trt_llm_kv_cache_block_metrics": (
        "TRT LLM KV cache block metrics",
        "kv_cache_block_type",
        ("max", "free", "used", "tokens_per", "fraction"),
    ),
    "nv_trt_llm_general_metrics": (
        "General TRT LLM metrics",
        "general_type",
        ("timestamp", "iteration_counter"),
    ),
}


class Gauges:
    """Owns the metric families; `set` writes one load."""

    def __init__(self, model: str, version: str, engine: Mapping[str, Any]) -> None:
        build = engine["build_config"]
        per_sequence = math.ceil(int(build["max_seq_len"]) / TOKENS_PER_BLOCK)
        self._slots = int(build["max_batch_size"])
        self._blocks = per_sequence * self._slots
        labels = {"model": model, "version": version}
        self._families, self._gauges = [], {}
        for name, (description, label, kinds) in _FAMILIES.items():
            family = pb_utils.MetricFamily(
                name=name, description=description, kind=pb_utils.MetricFamily.GAUGE
            )
            # A metric lives as long as its family, so both are kept.
            self._families.append(family)
            for kind in kinds:
                self._gauges[name, kind] = family.Metric(labels={**labels, label: kind})
        self.set(Load(0, 0, 0, 0.0, 0))

    def set(self, load: Load) -> None:
        """Write the gauges; each is a round trip to the server, so not at every step."""
        used = round(load.cache_fraction * self._blocks)
        values = (
            (load.active + load.waiting, self._slots, load.active, load.context, load.waiting),
            (self._blocks, self._blocks - used, used, TOKENS_PER_BLOCK, load.cache_fraction),
            (time.time(), load.iterations),
        )
        for (name, (_, _, kinds)), row in zip(_FAMILIES.items(), values, strict=True):
            for kind, value in zip(kinds, row, strict=True):
                self._gauges[name, kind].set(float(value))
