"""The published throughput of TensorRT-LLM that the roofline is fitted to and judged by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.hardware import device
from runbook_lib.plan.facts import Layer, ModelFacts, known_config, model_facts
from runbook_lib.plan.roofline_machine import machine
from runbook_lib.plan.roofline_memory import holds
from runbook_lib.plan.roofline_work import Deployment, Step, Traffic, step_of

__all__ = ["DATA", "Point", "alone", "points_of", "published", "steady", "together"]

DATA = Path(__file__).resolve().parent / "roofline_points.json"
FIRST = "ms to the first token"


@dataclass(frozen=True)
class Point:
    """One published figure: what was deployed, the load, and what came out.

    `measured` is output tokens/s of all GPUs together or, where `first_token`, seconds to the first
    token of one prompt. `batch` is sequences at once: as published, or what the memory holds.
    """

    trtllm: str
    model_name: str
    deployed: Deployment
    input_len: int
    output_len: int
    batch: int
    measured: float
    first_token: bool

    @property
    def step(self) -> Step:
        """The step that decides this figure."""
        if self.first_token:
            return step_of(self.deployed, alone(self.input_len))
        return step_of(
            self.deployed, steady(self.deployed, self.batch, self.input_len, self.output_len)
        )


def alone(prompt: int) -> Traffic:
    """The step of one prompt with nothing beside it."""
    return Traffic(
        tokens=prompt,
        sequences=1,
        context=prompt,
        prompt_tokens=prompt,
        prompt=prompt,
    )


def together(deployed: Deployment, batch: float) -> float:
    """Sequences that get a token in the time of a step: stages of a pipeline take turns."""
    return batch / deployed.pp


def steady(
    deployed: Deployment, batch: float, input_len: int, output_len: int, *, prompts: bool = True
) -> Traffic:
    """The mean step of `batch` running sequences, where each that ends makes room for a new prompt.

    Args:
        deployed: the model on its devices.
        batch: sequences at once.
        input_len: tokens of each prompt.
        output_len: tokens of each answer.
        prompts: whether the new prompts are counted; without them it is a step that only decodes.
    """
    # A pipeline that is not filled runs one sequence through one stage at a time.
    running = max(batch / deployed.pp, 1.0)
    joining = running * input_len / output_len if prompts else 0.0
    shared = deployed.sequences_over
    return Traffic(
        tokens=running + joining,
        sequences=running,
        per_rank=max(1 / shared, 1 / running) if shared > 1 else 1.0,
        context=input_len + output_len / 2,
        prompt_tokens=joining,
        prompt=input_len if prompts else 0,
    )


@cache
def published() -> tuple[Point, ...]:
    """Every point that comes with the package, in the order of its file."""
    return tuple(points_of(json.loads(DATA.read_bytes())))


def points_of(document: Mapping[str, Any]) -> list[Point]:
    """The points of a file such as `roofline_points.json`."""
    others = json.loads(DATA.read_bytes())["other_models"]
    models = {column["model"]: _model(column["model"], others) for column in document["columns"]}
    return [
        _point(column, models[column["model"]], row)
        for column in document["columns"]
        for row in column["points"]
    ]


def _model(name: str, others: Mapping[str, Any]) -> ModelFacts:
    if name not in others:
        return model_facts(known_config(name))
    stack = tuple(Layer(**layer) for layer in others[name]["stack"])
    return ModelFacts(**others[name]["facts"], stack=stack * others[name]["repeated"])


def _point(column: Mapping[str, Any], model: ModelFacts, row: list[float]) -> Point:
    on = device(column["gpu"])
    deployed = Deployment(
        model=model,
        machine=machine(on, model.in_force(column["quantization"])),
        dtype="float16",
        quantization=column["quantization"],
        kv_dtype=column["kv_dtype"],
        tp=column["tp"],
        pp=column["pp"],
        attention_dp=column["attention_dp"],
        pytorch=column["runtime"] == "pytorch",
    )
    input_len, output_len, figure, *given = row
    length = int(input_len), int(output_len)
    batch = int(given[0]) if given else max(1, holds(deployed, on, sum(length)))
    gpus = deployed.tp * deployed.pp if column["unit"].endswith("per GPU") else 1
    first_token = column["unit"] == FIRST
    return Point(
        trtllm=column["trtllm"],
        model_name=column["model"],
        deployed=deployed,
        input_len=length[0],
        output_len=length[1],
        batch=batch,
        measured=figure / 1e3 if first_token else figure * gpus,
        first_token=first_token,
    )
