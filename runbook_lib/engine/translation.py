"""A build command of any release, and the guide's, in the words of the release that is to run it.

What older lines put into one command belongs to two today: precision, quantisation, KV type and
parallelism to the checkpoint, limits and plugins to `trtllm-build`. Each flag is told where it went.
A release without trtllm-build answers with the commands of the llmapi track.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError

from runbook_lib.engine.command import Command
from runbook_lib.engine.commands import build_commands, commands
from runbook_lib.engine.families import FAMILIES
from runbook_lib.engine.kept_rules import PASSED_OVER, check_kept
from runbook_lib.engine.llmapi_releases import api_release
from runbook_lib.engine.old_flags import API_FIELDS, FIELDS, MEANINGS, Meaning, split
from runbook_lib.engine.releases import (
    LAST_CANDIDATE,
    VERSIONS,
    Release,
    moves,
    release,
    version_key,
)
from runbook_lib.engine.wish import FLOATS
from runbook_lib.errors import UsageError
from runbook_lib.profile import DeploymentProfile
from runbook_lib.profile_schema import nearest

__all__ = ["Note", "Translation", "translate"]

OLDEST = "0.5.0"
PLACEHOLDER = re.compile(r"^\{\w+\}$")
WEIGHTS = ("--model", "--model_dir")
DEFAULT_PROMPT: int = DeploymentProfile.model_fields["max_input_len"].default
MANY = 2**31
OFF = {"disable", "false", "0", "none", "off"}
OPEN = " (a placeholder: the default stands for it here)"


@dataclass(frozen=True)
class Note:
    """What became of one flag: `kind` is kept, moved, gone, unknown or wrong (a bad value)."""

    flag: str
    value: str | None
    kind: str
    told: str

    def __str__(self) -> str:
        given = self.flag if self.value is None else f"{self.flag} {self.value}"
        return f"{given:<40} {self.kind:<8} {self.told}"


@dataclass(frozen=True)
class Translation:
    """The commands that do what a line meant, and a note for each of its flags.

    `assumed` are the limits that the line leaves to the release, whose defaults moved: here they are
    written out.
    """

    release: str
    commands: tuple[Command, ...]
    notes: tuple[Note, ...]
    assumed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The translation as plain data."""
        return {
            "trtllm": self.release,
            "commands": [one.to_dict() for one in self.commands],
            "notes": [asdict(one) for one in self.notes],
            "assumed": list(self.assumed),
        }

    def __str__(self) -> str:
        return "\n".join([*map(str, self.commands), "", *map(str, self.notes), *self.assumed])


@dataclass
class _Reading:
    """What a line said so far: profile fields, switches, flags to keep, and the notes."""

    release: Release
    base: Mapping[str, Any] = field(default_factory=dict)
    ranks: int | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    switches: dict[str, bool] = field(default_factory=dict)
    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def note(self, flag: str, value: str | None, kind: str, told: str) -> None:
        self.notes.append(Note(flag, value, kind, told))


def translate(line: str, version: str, base: Mapping[str, Any] | None = None) -> Translation:
    """What a build command becomes with a release.

    Args:
        line: the build command.
        version: the release.
        base: fields of the profile that the line is for; what the line does not say is taken there.

    Raises:
        UsageError: the line is no build command, or its values can't stand together.
        PlanError: the release is not known here, or can't do what the line asks for.
    """
    if version_key(version) > LAST_CANDIDATE:
        return _served(line, api_release(version).version, base or {})
    found = release(version)
    reading = _reading(line, found, base or {})
    profile = _profile(reading, track="engine", version=found.version)
    check_kept(reading.kept, found.version, paged_context=profile.paged_context)
    made = build_commands(profile, weights=profile.weights, work="WORK")
    if "--checkpoint_dir" in reading.kept:
        made = [one for one in made if one.step == "trtllm-build"]
    written = [_with_kept(one, reading.kept) for one in made]
    assumed = tuple(_assumed(reading, profile))
    return Translation(found.version, tuple(written), tuple(reading.notes), assumed)


def _assumed(reading: _Reading, profile: DeploymentProfile) -> Iterable[str]:
    """Each limit that the line does not say, where the release would take another."""
    said = {FIELDS[one.flag][0] for one in reading.notes if one.flag in FIELDS}
    said |= {"max_seq_len"} if "max_output_len" in said else set()
    longest = reading.base.get("max_input_len", DEFAULT_PROMPT)
    for name, value in profile.limits.model_dump().items():
        default = reading.release.build.flags[f"--{name}"].default
        if name not in said and value != default:
            source = "the profile's" if reading.base else "a profile's default"
            if name == "max_input_len" and value < longest:
                source = "what the line's other limits leave"
            other = "the model's positions" if default is None else default
            yield (
                f"--{name} {value} is {source}: the line does not say it, and"
                f" {reading.release.version} would take {other}"
            )


def _served(line: str, version: str, base: Mapping[str, Any]) -> Translation:
    """A release without trtllm-build serves the checkpoint itself: the line, read as before, served."""
    reading = _reading(line, release(VERSIONS[-1]), base)
    reading.switches.clear()
    profile = _profile(reading, track="llmapi", version=version)
    made = commands(profile, weights=profile.weights, work="WORK")
    return Translation(version, tuple(made), tuple(_api_note(one) for one in reading.notes))


def _api_note(note: Note) -> Note:
    """Where a flag of the builder went on the llmapi track."""
    meaning = MEANINGS.get(note.flag)
    name = FIELDS[note.flag][0] if note.flag in FIELDS else ""
    name = next(iter(_meant(meaning)), name) if meaning else name
    if note.flag in WEIGHTS:
        name = "weights"
    if name:
        return Note(note.flag, note.value, "moved", API_FIELDS[name])
    if note.kind == "unknown" or note.flag.startswith("{"):
        return note
    gone = "trtllm-build went with 1.3.0rc21; the PyTorch backend has no such switch"
    return Note(note.flag, note.value, "gone", gone)


def _meant(meaning: Meaning) -> Iterable[str]:
    return (name for said in meaning.fields.values() for name in said)


def _reading(line: str, found: Release, base: Mapping[str, Any]) -> _Reading:
    reading = _Reading(found, base)
    for flag, values in split(line):
        _read(reading, flag, values)
    _share_ranks(reading)
    return reading


def _share_ranks(reading: _Reading) -> None:
    """--world_size was said beside its factors: alone it is that of tensor parallelism."""
    if reading.ranks is None:
        return
    stages = reading.fields.get("pipeline_parallel_size", 1)
    shares = reading.fields.get("tensor_parallel_size", reading.ranks // max(stages, 1))
    if shares * stages != reading.ranks:
        raise UsageError(
            f"--world_size {reading.ranks} is not --tp_size {shares} times --pp_size {stages}.",
            fix="Leave --world_size out.",
        )
    reading.fields["tensor_parallel_size"] = shares


def _read(reading: _Reading, flag: str, values: tuple[str, ...]) -> None:
    value = " ".join(values) if values else None
    open_place = value is not None and PLACEHOLDER.match(value)
    if not flag.startswith("-"):
        reading.note(flag, None, *_stray(flag))
    elif flag in WEIGHTS:
        _take_weights(reading, flag, value)
    elif flag in FIELDS:
        _take_field(reading, flag, value, given=not open_place)
    elif flag in MEANINGS:
        _take_meaning(reading, flag, value, given=not open_place)
    elif name := reading.release.build.name_of(flag):
        _keep(reading, flag, name, values)
    else:
        reading.note(flag, value, *_lost(flag, reading.release.version))


def _stray(word: str) -> tuple[str, str]:
    if PLACEHOLDER.match(word):
        return "moved", "a placeholder: quantisation belongs to the checkpoint step"
    return "unknown", "belongs to no flag"


def _take_weights(reading: _Reading, flag: str, value: str | None) -> None:
    if value is None:
        raise UsageError(f"{flag} names no model.", fix=f"{flag} /weights/llama-7b")
    name = PurePosixPath(value).name
    known = _family(name)
    family = reading.base.get("model_family") or known or "llama"
    reading.fields |= {
        "weights": value,
        "model_name": re.sub(r"[^A-Za-z0-9._-]", "", name).lstrip(".-") or "model",
        "model_family": family,
    }
    told = f"the checkpoint step reads it (--model_dir), taken for family {family}"
    told += "" if known or reading.base else ", for its name tells none that is known here"
    reading.note(flag, value, "moved", f"{told}; trtllm-build gets the converted --checkpoint_dir")


def _family(name: str) -> str:
    """The family that a model's name speaks of: `Qwen3-30B-A3B` is qwen3_moe; empty if none is."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    longest = sorted(FAMILIES, key=len, reverse=True)  # codellama is no llama to the rules
    found = next((one for one in longest if one.replace("_", "") in plain), "")
    mixture = f"{found}_moe"
    return mixture if mixture in FAMILIES and re.search(r"-A\d+", name, re.IGNORECASE) else found


def _take_field(reading: _Reading, flag: str, value: str | None, *, given: bool) -> None:
    name, told = FIELDS[flag]
    if given and flag == "--world_size":
        reading.ranks = int(_typed(flag, name, value))
    elif given:
        reading.fields[name] = _typed(flag, name, value)
    kind = _kind(reading.release, flag, "moved")
    reading.note(flag, value, kind, told if given else told + OPEN)


def _typed(flag: str, name: str, value: str | None) -> str | int:
    if DeploymentProfile.model_fields[name].annotation is str:
        if value is None:
            raise UsageError(f"{flag} has no value.")
        return value
    if value is None or not value.isdecimal():
        raise UsageError(f"{flag} takes a whole number, not {value!r}.", fix=f"{flag} 64")
    return int(value)


def _take_meaning(reading: _Reading, flag: str, value: str | None, *, given: bool) -> None:
    meaning = MEANINGS[flag]
    if given:
        said = meaning.fields.get(value or "", meaning.fields.get("*", {}))
        weaker = meaning.weak and said.keys() & reading.fields.keys()
        reading.fields |= {} if weaker else said
    if meaning.switch and given:
        reading.switches[meaning.switch] = (value or "").lower() not in OFF
    kind = _kind(reading.release, flag, meaning.kind)
    reading.note(flag, value, kind, meaning.told if given else meaning.told + OPEN)


def _keep(reading: _Reading, flag: str, name: str, values: tuple[str, ...]) -> None:
    value = " ".join(values) if values else None
    if name in PASSED_OVER:
        reading.note(flag, value, "wrong", f"left out: {PASSED_OVER[name]}")
        return
    about = reading.release.build.flags[name]
    problem = "" if about.many and values else about.problem(value)
    if len(values) > 1 and not about.many:
        problem = "takes one value"
    if any(one.startswith("-") for one in values):
        problem = "takes no value that begins with a dash"
    if problem:
        reading.note(flag, value, "wrong", f"left out: in {reading.release.version} it {problem}")
        return
    reading.kept[name] = values
    said = [one for one in moves(OLDEST, reading.release.version) if one.flag == name]
    told = "; ".join(one.what for one in said if one.tool == "trtllm-build")
    reading.note(flag, value, "kept", told or "as it was")


def _kind(found: Release, flag: str, otherwise: str) -> str:
    """Kept where the release has the flag, and no other that it should be said with."""
    replaced = any(one.flag == flag and one.instead for one in moves(OLDEST, found.version))
    return "kept" if found.build.name_of(flag) and not replaced else otherwise


def _lost(flag: str, version: str) -> tuple[str, str]:
    """The kind and the words of a flag that the release lacks."""
    known = [one for one in moves(OLDEST, VERSIONS[-1]) if one.flag == flag]
    if known:
        last = known[-1]
        said = f"{last.what} ({last.release})"
        if last.instead:
            return "moved", f"{said}; instead: {last.instead}"
        return "gone", said
    since = next((one for one in VERSIONS if release(one).build.name_of(flag)), "")
    if since:
        return "unknown", f"{version} does not know it yet; it came with {since}"
    near = nearest(flag, release(VERSIONS[-1]).build.flags)
    hint = f"; did you mean {near[0]}?" if near else ""
    return "unknown", f"not known from any release up to {VERSIONS[-1]}{hint}"


def _profile(reading: _Reading, *, track: str, version: str) -> DeploymentProfile:
    fields = _settled(reading)
    # A line alone says beams and nothing of streaming, which they exclude.
    one_beam = fields.get("max_beam_width", 1) == 1
    switches = fields.get("builder_flags", {}) if track == "engine" else {}
    given = {
        "model_name": "model",
        "streaming": one_beam,
        **fields,
        "track": track,
        "trtllm_version": version,
        "builder_flags": {**switches, **reading.switches},
    }
    try:
        return DeploymentProfile.model_validate(given)
    except ValidationError as error:
        raise UsageError(
            "The line's values can't stand together.", why="; ".join(_problems(error))
        ) from None


def _settled(reading: _Reading) -> dict[str, Any]:
    """The line's fields over the profile's; what it does not say gives way to what it says."""
    said = reading.fields
    fields = {**reading.base, **said}
    if said.keys() & {"max_input_len", "max_output_len"} and "max_seq_len" not in said:
        fields.pop("max_seq_len", None)
    if "dtype" in said and fields.get("kv_cache_dtype") in FLOATS and "kv_cache_dtype" not in said:
        fields.pop("kv_cache_dtype")
    if "max_input_len" not in said:
        longest = fields.get("max_input_len", DEFAULT_PROMPT)
        room = (fields.get("max_num_tokens"), (fields.get("max_seq_len") or MANY) - 1)
        fields["max_input_len"] = max(1, min(longest, *(one for one in room if one)))
    return fields


def _problems(error: ValidationError) -> Iterable[str]:
    for one in error.errors(include_url=False):
        where = ".".join(str(part) for part in one["loc"])
        yield f"{where}: {one['msg']}" if where else one["msg"]


def _with_kept(command: Command, kept: dict[str, tuple[str, ...]]) -> Command:
    """The build command with the line's own flags over those that are written for a profile."""
    if command.step != "trtllm-build":
        return command
    argv = list(command.argv)
    for name, values in kept.items():
        if name in argv:
            argv[argv.index(name) + 1 : argv.index(name) + 2] = values
        else:
            argv += [name, *values]
    return Command(command.step, tuple(argv))
