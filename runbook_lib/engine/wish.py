"""What a profile asks of a release, and the form of a rule that refuses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runbook_lib.engine.families import FAMILIES, Family
from runbook_lib.engine.releases import version_key
from runbook_lib.hardware import device
from runbook_lib.profile import DeploymentProfile

__all__ = ["FLOATS", "WEIGHT_ONLY", "Rule", "Wish", "is_converted"]

WEIGHT_ONLY = {"int8_wo": "int8", "int4_wo": "int4"}
FLOATS = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class Wish:
    """What is asked of a release: the profile, the version, the paths that go into templates."""

    profile: DeploymentProfile
    version: str
    paths: tuple[str, ...] = ()

    @property
    def sm(self) -> int | None:
        """The SM as a number, 89 for Ada; None where the profile names no GPU."""
        gpu = self.profile.gpu
        return int(device(gpu).target.removeprefix("sm")) if gpu else None

    @property
    def family(self) -> Family | None:
        """The model's family; None where it is not known here."""
        return FAMILIES.get(self.profile.model_family)

    def before(self, version: str) -> bool:
        """Whether the release is older than `version`."""
        return version_key(self.version) < version_key(version)

    def on_older_than(self, sm: int) -> bool:
        """Whether the profile's GPU is known and older than an SM."""
        return self.sm is not None and self.sm < sm


@dataclass(frozen=True)
class Rule:
    """One thing that can't be done: when, why, what instead, and where that was read.

    `told` and `instead` may name fields of the profile in braces, and `{release}`, `{sm}`,
    `{since}` (the family's first release), `{formats}` (its quantisations on this track) and
    `{near}` (the known family that a word is nearest to).
    """

    name: str
    applies: Callable[[Wish], object]
    told: str
    instead: str
    source: str = ""


def is_converted(profile: DeploymentProfile) -> bool:
    """Whether conversion is enough: full precision, weight-only, GPTQ. All else is calibrated."""
    plain = profile.quantization in {"none", "int4_gptq", *WEIGHT_ONLY}
    return plain and profile.kv_cache_dtype in FLOATS
