"""What stands around a model that runs an engine: its parameters, the engine, who calls it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from runbook_lib.repository.findings import Model

__all__ = ["Deployed", "deployed", "limit"]


@dataclass(frozen=True)
class Deployed:
    """One model of the `tensorrtllm` backend in its repository.

    Attributes:
        models: all of the repository that have a configuration.
        engine: the `config.json` beside it or where `gpt_model_path` leads; None where none is here.
        folder: where that lies.
    """

    model: Model
    models: tuple[Model, ...]
    engine: dict[str, Any] | None
    folder: Path | None

    @cached_property
    def parameters(self) -> dict[str, str]:
        """Its parameters as they are written."""
        return {name: one.string_value for name, one in self.model.config.parameters.items()}

    @property
    def decoupled(self) -> bool:
        """Whether it may give any number of answers."""
        return bool(self.model.config.model_transaction_policy.decoupled)

    @cached_property
    def entries(self) -> tuple[Model, ...]:
        """Who hands requests on to it: ensembles with it as a step, and a model that names it."""
        return tuple(one for one in self.models if one is not self.model and self._calls(one))

    def _calls(self, other: Model) -> bool:
        if other.is_ensemble:
            steps = other.config.ensemble_scheduling.step
            return any(step.model_name == self.model.name for step in steps)
        named = other.config.parameters.get("tensorrt_llm_model_name")
        return named is not None and named.string_value == self.model.name

    def number(self, name: str) -> float | None:
        """A parameter as a number; None where it is missing or none."""
        try:
            return float(self.parameters[name])
        except (KeyError, ValueError):
            return None

    def is_on(self, name: str) -> bool:
        """Whether a switch is set to true."""
        return self.parameters.get(name, "").lower() in {"true", "1"}

    @property
    def is_beside(self) -> bool:
        """Whether `gpt_model_path` is this model's own version folder, wherever it is mounted."""
        parts = PurePosixPath(self.parameters.get("gpt_model_path", "")).parts
        return parts[-2:] in {(self.model.name, str(one)) for one in self.model.loaded}

    @property
    def missing_ranks(self) -> tuple[str, ...]:
        """Files of ranks that the engine's own mapping wants and its folder lacks."""
        if self.engine is None or self.folder is None:
            return ()
        mapping = self.engine.get("pretrained_config", {}).get("mapping", {})
        ranks = mapping.get("world_size") or mapping.get("tp_size", 1) * mapping.get("pp_size", 1)
        names = [f"rank{rank}.engine" for rank in range(ranks)]
        return tuple(name for name in names if not any(self.folder.glob(f"*{name}")))


def deployed(model: Model, models: Sequence[Model]) -> Deployed:
    """A model of the `tensorrtllm` backend with what is around it."""
    given = model.config.parameters.get("gpt_model_path")
    folders = [model.path / str(version) for version in reversed(model.loaded)]
    folders += [Path(given.string_value)] if given and given.string_value.startswith("/") else []
    configured = tuple(one for one in models if one.config is not None)
    for folder in folders:
        engine = _json(folder / "config.json")
        if isinstance(engine.get("build_config"), dict):
            return Deployed(model, configured, engine, folder)
    return Deployed(model, configured, None, None)


def limit(engine: dict[str, Any] | None, name: str) -> int | None:
    """A limit that an engine was built for; None where it does not say."""
    built = {} if engine is None else engine["build_config"]
    value = built.get(name)
    return value if isinstance(value, int) else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
