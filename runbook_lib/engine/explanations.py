"""Why each flag of a command is there, and what changed about it since the release before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from runbook_lib.engine.command import Command
from runbook_lib.engine.commands import release_of
from runbook_lib.engine.differences import api_changes, changes
from runbook_lib.engine.llmapi_releases import VERSIONS as API_VERSIONS
from runbook_lib.engine.llmapi_releases import api_release
from runbook_lib.engine.reasons import API_WHY, WHY
from runbook_lib.engine.releases import VERSIONS, Release, moves, release
from runbook_lib.profile import DeploymentProfile

__all__ = ["Explained", "Reason", "explain"]

BEFORE_THE_FIRST = "0.11.0"
KEY = re.compile(r"(?:^|(?<!\\),)(\w+):")


@dataclass(frozen=True)
class Reason:
    """Why a flag or template name is there; `changed` is what changed about it in this release."""

    name: str
    why: str
    changed: str = ""

    def __str__(self) -> str:
        return f"{self.name:<32} {self.why}{self.changed and f' [new: {self.changed}]'}"


@dataclass(frozen=True)
class Explained:
    """A command with a reason for each of its flags."""

    command: Command
    reasons: tuple[Reason, ...]

    def to_dict(self) -> dict[str, Any]:
        """The command and its reasons as plain data."""
        reasons = [asdict(one) for one in self.reasons]
        return self.command.to_dict() | {"why": reasons}

    def __str__(self) -> str:
        return "\n".join([str(self.command), *(f"    {one}" for one in self.reasons)])


def explain(commands: Iterable[Command], profile: DeploymentProfile) -> list[Explained]:
    """Each command with the reason for each flag, and what changed since the release before.

    Args:
        commands: those of the profile.
        profile: says the track and the release.

    Raises:
        PlanError: the profile's release is not known on its track.
    """
    if profile.track == "llmapi" and profile.trtllm_version is not None:
        why, news = API_WHY, _api_news(api_release(profile.trtllm_version).version)
    else:
        why, news = WHY, _news(release_of(profile))
    return [
        Explained(one, tuple(_reason(one, name, why, news) for name in _names(one, why)))
        for one in commands
    ]


def _names(command: Command, why: Mapping[str, str]) -> list[str]:
    if command.step.startswith("write_"):
        return list(_keys(command.argv[-1]))
    words = [word.partition("=")[0] for word in command.argv]
    names = [word for word in words if word in why and word.startswith("-")]
    if command.step == "fill_templates":
        names += KEY.findall(command.argv[-1])
    return names


def _keys(text: str) -> Iterator[str]:
    """The keys of a written YAML file; those of a mapping inside it with its name before them."""
    above = ""
    for line in text.splitlines():
        name = line.partition(":")[0]
        if not name.startswith(" "):
            above = name
            yield name
        else:
            yield f"{above}.{name.strip()}"


def _reason(
    command: Command, name: str, why: Mapping[str, str], news: Mapping[tuple[str, str], str]
) -> Reason:
    return Reason(name, why[name], news.get((_where(command), name), ""))


def _where(command: Command) -> str:
    """What the record of releases calls a command's tool, or the model whose template is filled."""
    if command.step == "fill_templates":
        return command.argv[-2].split("/")[-2]
    if command.step == "convert_checkpoint":
        return command.argv[1].split("/")[-2]
    return {"serve": "trtllm-serve", "write_model_yaml": "model.yaml"}.get(
        command.step, command.step
    )


def _news(found: Release) -> dict[tuple[str, str], str]:
    """What is new in a release by (tool or model, name)."""
    number = VERSIONS.index(found.version)
    told = {}
    if number:
        for one in changes(release(VERSIONS[number - 1]), found):
            told[one.where, one.name] = one.what or one.kind
    for move in moves(VERSIONS[number - 1] if number else BEFORE_THE_FIRST, found.version):
        told["tensorrt_llm" if move.tool == "templates" else move.tool, move.flag] = move.what
    return told


def _api_news(version: str) -> dict[tuple[str, str], str]:
    number = API_VERSIONS.index(version)
    if not number:
        return {}
    before = api_release(API_VERSIONS[number - 1])
    found = api_changes(before, api_release(version))
    return {(one.where, one.name): one.what or one.kind for one in found}
