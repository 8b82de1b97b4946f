"""What a model's config.json says about its size: parameters, weights and KV cache, exactly.

The counts follow the architectures' layers as Hugging Face's `transformers` defines them, of the
language model alone: a vision tower beside it is not counted.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runbook_lib.errors import PlanError
from runbook_lib.plan.facts_deepseek import deepseek
from runbook_lib.plan.facts_dense import gemma, llama, phi, phi3, qwen
from runbook_lib.plan.facts_falcon import falcon
from runbook_lib.plan.facts_model import BYTES, Layer, ModelFacts
from runbook_lib.plan.facts_moe import gpt_oss, mixtral, qwen_moe
from runbook_lib.plan.facts_reading import Sizes, shown

__all__ = [
    "BYTES",
    "FAMILIES",
    "Layer",
    "ModelFacts",
    "known_config",
    "known_models",
    "model_facts",
]

DATA = Path(__file__).resolve().parent / "models.json"

FAMILIES: dict[str, Callable[[str, Sizes], ModelFacts]] = {
    "LlamaForCausalLM": llama,
    "MistralForCausalLM": llama,
    "MixtralForCausalLM": mixtral,
    "Qwen2ForCausalLM": qwen,
    "Qwen2MoeForCausalLM": qwen_moe,
    "Qwen3ForCausalLM": qwen,
    "Qwen3MoeForCausalLM": qwen_moe,
    "GemmaForCausalLM": gemma,
    "Gemma2ForCausalLM": gemma,
    "Gemma3ForCausalLM": gemma,
    "Gemma3ForConditionalGeneration": gemma,
    "PhiForCausalLM": phi,
    "Phi3ForCausalLM": phi3,
    "DeepseekV2ForCausalLM": deepseek,
    "DeepseekV3ForCausalLM": deepseek,
    "GptOssForCausalLM": gpt_oss,
    "FalconForCausalLM": falcon,
}


def known_models() -> dict[str, Any]:
    """The models known by name: repository, config.json's facts, and the basis where they stand."""
    return dict(json.loads(DATA.read_bytes())["models"])


def known_config(model_name: str) -> dict[str, Any]:
    """The config.json facts of a model that is known by name.

    Raises:
        PlanError: it is not; the known names are given.
    """
    models = known_models()
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
            f"The architecture {shown(name) if name else 'of this config.json'} is not known to the planner.",
            why=f"It knows {', '.join(FAMILIES)}.",
            fix="Check `architectures` in the model's config.json.",
        )
    sizes = Sizes(_text_config(config))
    facts = FAMILIES[name](name, sizes)
    sizes.check()
    return facts


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a config that also describes a vision tower."""
    inner = config.get("text_config")
    if inner is None:
        return config
    if not isinstance(inner, Mapping):
        raise PlanError(
            f"text_config of this config.json is {shown(inner)}, not an object.",
            fix="Take the config.json that came with the weights.",
        )
    return {name: value for name, value in config.items() if name != "text_config"} | dict(inner)
