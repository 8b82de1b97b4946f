"""What changes from one release to another: flags, templates, places, and a profile's commands."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from runbook_lib.engine.commands import commands
from runbook_lib.engine.llmapi_releases import ApiRelease, api_release
from runbook_lib.engine.releases import (
    LAST_CANDIDATE,
    Flag,
    Move,
    Release,
    Tool,
    moves,
    release,
    version_key,
)
from runbook_lib.engine.serve_commands import MODELS
from runbook_lib.errors import PlanError
from runbook_lib.profile import DeploymentProfile

__all__ = ["Change", "Difference", "api_changes", "changes", "difference"]

GUESS = "inferred"
BUILD, SERVE = "trtllm-build", "trtllm-serve"
COMMA = re.compile(r"(?<!\\\\),")
WORDS = {
    "trtllm-build": "trtllm-build",
    "quantize": "quantize.py",
    "hf_ptq": "hf_ptq.py of ModelOpt",
    **{
        family: f"convert_checkpoint.py ({family})"
        for family in ("llama", "phi", "qwen", "gemma", "falcon", "deepseek_v2")
    },
    **{model: f"{model}/config.pbtxt" for model in MODELS},
}


@dataclass(frozen=True)
class Change:
    """One flag or template name that is added, gone, or different."""

    where: str
    name: str
    kind: str
    what: str = ""

    def __str__(self) -> str:
        where = WORDS.get(self.where, self.where)
        return f"{self.kind:<8} {where}: {self.name}{self.what and f' ({self.what})'}"


@dataclass(frozen=True)
class Difference:
    """An upgrade (or a step back): what changed, what moved, and what becomes of the commands."""

    before: str
    after: str
    changes: tuple[Change, ...]
    moved: tuple[Move, ...]
    notes: tuple[str, ...] = ()
    commands: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The difference as plain data; `commands` are the lines of a unified diff."""
        made = {
            "before": self.before,
            "after": self.after,
            "changes": [asdict(one) for one in self.changes],
            "moved": [asdict(one) for one in self.moved],
            "notes": list(self.notes),
        }
        return made if self.commands is None else made | {"commands": list(self.commands)}

    def __str__(self) -> str:
        lines = [f"{self.before} → {self.after}", *map(str, self.changes)]
        if not self.changes:
            lines.append("No flag, template name or place differs in what is recorded.")
        lines += [f"note: {one}" for one in self.notes]
        if self.moved:
            lines += [
                "",
                "What moved or means something else:",
                *(f"  {one}" for one in self.moved),
            ]
        if self.commands is not None:
            lines += ["", *(self.commands or ("The profile's commands stay as they are.",))]
        return "\n".join(lines)


def difference(before: str, after: str, profile: DeploymentProfile | None = None) -> Difference:
    """What changes between two releases; with a profile, on its track and in its commands too.

    Raises:
        PlanError: a release is not known here, or the two have no track in common.
    """
    track = None if profile is None else profile.track
    engines = None if track == "llmapi" else _pair(release, before, after)
    served = None if track == "engine" and engines else _pair(api_release, before, after)
    pair = engines or served or (None if track == "llmapi" else _across(before, after))
    if pair is None:
        raise _nothing_shared(before, after, track)
    old, new = pair
    first, last = sorted((old.version, new.version), key=version_key)
    return Difference(
        old.version,
        new.version,
        (
            *(changes(*engines) if engines else ()),
            *(api_changes(*served) if served else ()),
            *(() if engines or served else _track_changes(old)),
        ),
        tuple(moves(first, last)) if engines or not served else (),
        tuple(_told(before, after, engines, served)),
        None if profile is None else tuple(_commands_diff(old.version, new.version, profile)),
    )


R = TypeVar("R", Release, ApiRelease)


def _pair(find: Callable[[str], R], before: str, after: str) -> tuple[R, R] | None:
    """Both releases on a track; None where it lacks one of them."""
    try:
        return find(before), find(after)
    except PlanError:
        return None


def _across(before: str, after: str) -> tuple[Release | ApiRelease, Release | ApiRelease] | None:
    """Releases on either side of the engine track's end, the older without an llmapi track yet."""
    for first, second in ((release, api_release), (api_release, release)):
        with suppress(PlanError):
            return first(before), second(after)
    return None


def _track_changes(old: Release | ApiRelease) -> Iterable[Change]:
    ways = ("gone", "added") if isinstance(old, Release) else ("added", "gone")
    for track, tool, kind in zip(("engine", "llmapi"), (BUILD, SERVE), ways, strict=True):
        yield Change(f"track {track}", tool, kind)


def _nothing_shared(before: str, after: str, track: str | None) -> PlanError:
    find = api_release if track == "llmapi" else release
    for version in (before, after):
        try:
            find(version)
        except PlanError as error:
            return error
    return PlanError(f"{before} and {after} have no track in common.")


def changes(old: Release, new: Release) -> Iterable[Change]:
    """Each flag, template name and place of the engine track that differs."""
    for tool in new.tools:
        if tool in old.tools:
            yield from _flag_changes(tool, old.tools[tool], new.tools[tool])
        else:
            yield Change(tool, "convert_checkpoint.py", "added")
    for tool in old.tools.keys() - new.tools.keys():
        yield Change(tool, "convert_checkpoint.py", "gone")
    for model, template in new.templates.items():
        past = old.templates[model]
        for name in sorted(past.names - template.names):
            yield Change(model, name, "gone")
        for name in sorted(template.names - past.names):
            must = name in template.mandatory
            yield Change(model, name, "added", "must be filled" if must else "")
    for part in ("converter", "quantize", "templates", "fill", "launch"):
        was, is_now = (one.place(part, "WORK") for one in (old, new))
        if was != is_now:
            yield Change("scripts", part, "changed", f"{was} → {is_now}")


def api_changes(old: ApiRelease, new: ApiRelease) -> Iterable[Change]:
    """Each option, argument of LLM() and tag of the llmapi track that differs."""
    for tool in new.tools:
        yield from _flag_changes(tool, old.tools[tool], new.tools[tool])
    if old.modelopt != new.modelopt:
        yield Change("scripts", "ModelOpt", "changed", f"{old.modelopt} → {new.modelopt}")


def _told(
    before: str,
    after: str,
    engines: tuple[Release, Release] | None,
    served: tuple[ApiRelease, ApiRelease] | None,
) -> Iterable[str]:
    if engines is None:
        for version in (before, after):
            try:
                release(version)
            except PlanError as error:
                yield f"{error.what} {error.fix}"
    for pair in (engines, served):
        if pair is not None:
            yield from _notes(*pair)


def _notes(old: Release | ApiRelease, new: Release | ApiRelease) -> Iterable[str]:
    for one in (old, new):
        weak = [WORDS.get(name, name) for name, tool in one.tools.items() if tool.basis == GUESS]
        if weak and old is not new:
            yield (
                f"no source of {one.version} was at hand for {', '.join(weak)}: "
                "what changes there may have changed in a release beside it"
            )


def _flag_changes(where: str, old: Tool, new: Tool) -> Iterable[Change]:
    for name in sorted(old.flags.keys() - new.flags.keys()):
        yield Change(where, name, "gone")
    for name in sorted(new.flags.keys() - old.flags.keys()):
        yield Change(where, name, "added")
    # A record that is inferred leaves a default out where its neighbours differ.
    unsure = GUESS in {old.basis, new.basis}
    for name in sorted(old.flags.keys() & new.flags.keys()):
        if what := _changed(old.flags[name], new.flags[name], unsure=unsure):
            yield Change(where, name, "changed", what)


def _changed(old: Flag, new: Flag, *, unsure: bool) -> str:
    told = []
    if old.type != new.type:
        told.append(f"{old.type} → {new.type}")
    defaults = (old.default, new.default)
    if old.default != new.default and not (unsure and None in defaults):
        was, is_now = ("unset" if one is None else one for one in defaults)
        told.append(f"default {was} → {is_now}")
    added = [str(one) for one in new.choices if one not in old.choices]
    gone = [str(one) for one in old.choices if one not in new.choices]
    told += [f"takes {', '.join(added)}"] if added else []
    told += [f"no longer takes {', '.join(gone)}"] if gone else []
    return "; ".join(told)


def _commands_diff(old: str, new: str, profile: DeploymentProfile) -> list[str]:
    before, after = _lines(profile, old), _lines(profile, new)
    return list(difflib.unified_diff(before, after, old, new, lineterm="", n=0))


def _lines(profile: DeploymentProfile, version: str) -> list[str]:
    """The commands, an option a line, so that a diff shows options; or why there are none."""
    # Where there are no engines any more, an upgrade changes the track.
    gone = profile.track == "engine" and version_key(version) > LAST_CANDIDATE
    track = {"track": "llmapi"} if gone else {}
    wanted = profile.model_copy(update={"trtllm_version": version, **track})
    try:
        found = commands(wanted, weights=profile.weights, work="WORK")
    except PlanError as error:
        return [f"refused: {error.why} Instead: {error.fix}"]
    return [line for command in found for line in _options(command.step, command.argv)]


def _options(step: str, argv: tuple[str, ...]) -> Iterable[str]:
    line, words = f"{step}:", argv
    if step == "fill_templates":
        words = argv[:-1]
        model = argv[-2].split("/")[-2]
        yield from (f"{step}: {model} {pair}" for pair in COMMA.split(argv[-1]))
    if step.startswith("write_"):
        words = argv[-2:-1]
        yield from (f"{step}: {text}" for text in argv[-1].splitlines())
    for word in words:
        if word.startswith("--"):
            yield line
            line = f"{step}:"
        line += f" {word}"
    yield line
