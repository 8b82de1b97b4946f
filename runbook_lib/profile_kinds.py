"""What a load profile and a MIG profile may say. Pure; no files, no environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from runbook_lib.profile_schema import Count, FieldProblems, Line, Section, Text, Tokens

__all__ = ["LoadProfile", "MigProfile", "Resources"]


class LoadProfile(Section):
    """How requests arrive in a benchmark, how many, and how long each answer may be."""

    profile: Line = ""
    """Name of the load in tables and records."""
    extends: Line | None = None
    """Another load whose values hold where this one says nothing."""
    description: Text = ""
    """For the reader."""
    pattern: Literal["steady", "bursty", "poisson", "heavy"] = "steady"
    """The word of the guide's harness; `arrival` says what is sent."""
    arrival: Literal["closed", "poisson"] = "closed"
    """closed: `concurrency` requests always in flight; poisson: `rate` requests a second, whatever comes back."""
    requests: Annotated[int, Field(gt=0, le=10_000_000)] = 200
    """Measured requests."""
    concurrency: Count | None = None
    """Requests in flight of a closed loop."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """Mean requests per second of a Poisson load."""
    max_tokens: Tokens = 64
    """Output tokens asked for by each request."""
    warmup_requests: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Requests sent before, not measured."""
    prompts: tuple[Text, ...] = Field(default=(), strict=False)
    """What is asked, in turn; empty: the questions that come with the model."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 7
    """The same seed sends the same load."""
    streaming: bool = True
    """Whether answers are streamed; time to first token needs it."""
    use_cases: tuple[Line, ...] = Field(default=(), strict=False)
    """For the reader."""
    characteristics: dict[str, str] = Field(default_factory=dict)
    """For the reader."""
    limitations: tuple[Line, ...] = Field(default=(), strict=False)
    """For the reader."""
    warnings: tuple[Line, ...] = Field(default=(), strict=False)
    """For the reader."""

    @model_validator(mode="before")
    @classmethod
    def _from_pattern(cls, given: Any) -> Any:
        if (
            isinstance(given, Mapping)
            and "arrival" not in given
            and given.get("pattern") == "poisson"
        ):
            return {**given, "arrival": "poisson"}
        return given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems: list[tuple[str, str]] = []
        if self.arrival == "closed":
            if self.concurrency is None:
                problems.append(("concurrency", "is missing: a closed loop needs it"))
            if self.rate is not None:
                problems.append(
                    (
                        "rate",
                        "belongs to arrival poisson; a closed loop sends when an answer is there",
                    )
                )
        else:
            if self.rate is None:
                problems.append(("rate", "is missing: a Poisson load needs it"))
            if self.concurrency is not None:
                problems.append(
                    (
                        "concurrency",
                        "belongs to arrival closed; a Poisson load never waits for an answer",
                    )
                )
        if problems:
            raise FieldProblems(problems)
        return self


class Resources(Section):
    """What a pod asks of Kubernetes, quantities as Kubernetes writes them."""

    limits: dict[str, str | int] = Field(default_factory=dict)
    """At most; the GPU or MIG slice stands here."""
    requests: dict[str, str | int] = Field(default_factory=dict)
    """At least."""


class MigProfile(Section):
    """The Kubernetes shape of a pod on a MIG slice or a whole GPU."""

    profile: Line = ""
    """Name of the slice in tables and records."""
    extends: Line | None = None
    """Another shape whose values hold where this one says nothing."""
    nodeSelector: dict[str, str] = Field(default_factory=dict)  # noqa: N815 - Kubernetes' word
    """Labels that a node must have."""
    resources: Resources = Field(default_factory=Resources)
    """Limits and requests of the pod."""
    tolerations: tuple[dict[str, str | int], ...] = Field(default=(), strict=False)
    """Taints that the pod accepts."""
    affinity: dict[str, Any] = Field(default_factory=dict)
    """Kubernetes affinity."""
    notes: Text = ""
    """For the reader."""

    @model_validator(mode="before")
    @classmethod
    def _from_sweep(cls, given: Any) -> Any:
        """The harness's second spelling: `limits: {resource_key, count}`."""
        limits = given.get("limits") if isinstance(given, Mapping) else None
        if (
            not isinstance(limits, Mapping)
            or set(limits) != {"resource_key", "count"}
            or "resources" in given
        ):
            return given
        rest = {name: value for name, value in given.items() if name != "limits"}
        return rest | {"resources": {"limits": {limits["resource_key"]: limits["count"]}}}

    @model_validator(mode="after")
    def _one_device(self) -> Self:
        devices = [name for name in self.resources.limits if name.startswith("nvidia.com/")]
        if len(devices) != 1:
            found = ", ".join(devices) or "none"
            raise FieldProblems(
                [("resources.limits", f"needs one nvidia.com/… resource, found {found}")]
            )
        return self

    @property
    def resource(self) -> str:
        """The resource that the pod asks for: `nvidia.com/gpu` or `nvidia.com/mig-<slice>`."""
        return next(name for name in self.resources.limits if name.startswith("nvidia.com/"))
