"""A build command of the user's own: a template with the profile's values as placeholders.

It is split into words first and filled then, so that a value never becomes two words, and no shell
takes part. A line of `trtllm-build` is translated into the commands of the profile's release.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from runbook_lib.engine.command import Command
from runbook_lib.engine.old_flags import FIELDS, split
from runbook_lib.engine.runner import OWN_STEP
from runbook_lib.engine.translation import translate
from runbook_lib.errors import ProfileError
from runbook_lib.profile import DeploymentProfile
from runbook_lib.profile_schema import nearest

__all__ = ["PLACEHOLDERS", "in_force", "own_commands", "translation_notes"]

PLACEHOLDERS: dict[str, str] = {
    "model_name": "name of the model",
    "weights": "folder of the checkpoint",
    "dtype": "float16, bfloat16 or float32",
    "quantization": "none, fp8, int4_awq …",
    "quantization_arg": "--quantization and its word; nothing where it is none",
    "kv_cache_dtype": "type of the KV cache",
    "tensor_parallel_size": "GPUs that share each layer",
    "pipeline_parallel_size": "GPUs that take layers in turn",
    "context_parallel_size": "GPUs that share each sequence",
    "moe_tensor_parallel_size": "GPUs that share each expert",
    "moe_expert_parallel_size": "groups of GPUs with different experts",
    "world_size": "ranks: the product of tensor, pipeline and context parallelism",
    "max_batch_size": "sequences in flight",
    "max_input_len": "tokens of a prompt",
    "max_output_len": "tokens of an answer",
    "max_seq_len": "tokens of both together",
    "max_num_tokens": "tokens in one step",
    "max_beam_width": "beams",
    "use_gpt_attention_plugin": "enable or disable, by builder_flags",
    "use_gemm_plugin": "enable or disable, by builder_flags",
    "use_context_fmha": "enable or disable, by builder_flags",
    "remove_input_padding": "enable or disable, by builder_flags",
    "trtllm_version": "release of TensorRT-LLM",
    "gpu": "GPU that the engine is for",
    "work_dir": "folder of this build, removed when it ends",
    "checkpoint_dir": "folder in it for a converted checkpoint",
    "output_dir": "folder in it that must hold the engine at the end",
}
SWITCHES = (
    "use_gpt_attention_plugin",
    "use_gemm_plugin",
    "use_context_fmha",
    "remove_input_padding",
)
PLACES = ("{output_dir}", "{work_dir}")
BUILDER = "trtllm-build"
BASE = {"model_family", "gpu", "streaming", "builder_flags", "optimization_level"}
PLACEHOLDER = re.compile(r"\{(\w+)\}")
OPERATORS = {"|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1"}
VARIABLE = re.compile(r"\$[A-Za-z_{(]|`")
SECRET_NAME = re.compile(
    r"(?i)(?:^|[_-])(?:token|password|passwd|secret|credentials?|(?:api|access|secret)[_-]?key)$"
)
SECRET_WORD = re.compile(
    r"hf_[A-Za-z0-9]{16,}|nvapi-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|xox[abp]-[\w-]{10,}|sk-[A-Za-z0-9_-]{20,}|-----BEGIN|://[^/\s:@]+:[^/\s:@]+@"
)
SHORTEST_SECRET = 8


def own_commands(
    profile: DeploymentProfile,
    *,
    weights: str,
    work: str,
    env: Mapping[str, str] = os.environ,
) -> list[Command] | None:
    """The commands of a profile's `builder_cmd`; None where it has none, or the lab's builder does it.

    Args:
        profile: the profile.
        weights: the checkpoint's folder.
        work: the work folder; the engine comes into its subfolder `engine`.
        env: looked through for secrets that stand in the template.

    Raises:
        ProfileError: the template can't be run; every problem at once.
        PlanError, UsageError: a trtllm-build line that the release can't do.
    """
    if profile.builder_cmd is None:
        return None
    words = _words(profile.builder_cmd, env)
    if not _is_trtllm_build(words):
        if not any(place in word for word in words for place in PLACES):
            raise _wrong(["it does not say where the engine goes: give it {output_dir}"])
        return [Command(OWN_STEP, _filled(words, profile, weights, work))]
    if profile.track == "lab":
        return None
    # What is fetched for this build lies in its work folder, which the translation calls WORK.
    weights = re.sub(rf"^{re.escape(work)}(?=/)", "WORK", weights)
    line = _line(profile, words, weights)
    made = translate(line, str(profile.trtllm_version), _base(profile, weights)).commands
    return [Command(one.step, tuple(_placed(one.argv, work))) for one in made]


def in_force(profile: DeploymentProfile) -> DeploymentProfile:
    """The profile as its template means it in the lab, whose builder does what trtllm-build would.

    Raises:
        ProfileError: the line's values make no profile of the lab.
    """
    if profile.track != "lab" or profile.builder_cmd is None:
        return profile
    words = _words(profile.builder_cmd, os.environ)
    if not _is_trtllm_build(words):
        return profile
    given = {
        FIELDS[flag][0]: " ".join(values)
        for flag, values in split(_line(profile, words, profile.weights))
        if flag in FIELDS and values
    }
    numbers = {name: int(text) if text.isdecimal() else text for name, text in given.items()}
    base = profile.model_dump(exclude={"tradeoffs", "builder_cmd"})
    try:
        return DeploymentProfile.model_validate({**base, "max_seq_len": None, **numbers})
    except ValueError as error:
        raise _wrong([str(error)]) from None


def translation_notes(profile: DeploymentProfile) -> list[str]:
    """What became of each flag of a trtllm-build line; nothing for other templates.

    Raises:
        ProfileError, PlanError, UsageError: as `own_commands`.
    """
    if profile.builder_cmd is None or profile.track == "lab":
        return []
    words = _words(profile.builder_cmd, os.environ)
    if not _is_trtllm_build(words):
        return []
    line = _line(profile, words, profile.weights)
    found = translate(line, str(profile.trtllm_version), _base(profile, profile.weights))
    return [*map(str, found.notes), *found.assumed]


def _base(profile: DeploymentProfile, weights: str) -> dict[str, Any]:
    """What a line takes from the profile where it says nothing itself."""
    fields = {name for name, _ in FIELDS.values()} | BASE
    return profile.model_dump(include=fields, exclude_none=True) | {"weights": weights}


def _is_trtllm_build(words: list[str]) -> bool:
    """Whether it is a line of trtllm-build itself; a program that starts it is one of the user's own."""
    return PurePosixPath(words[0]).name == BUILDER


def _line(profile: DeploymentProfile, words: list[str], weights: str) -> str:
    return shlex.join(_filled(words, profile, weights, "WORK"))


def _placed(argv: Iterable[str], work: str) -> Iterator[str]:
    """A translated command's words in this build's folder, wherever the line wanted its engine."""
    before = ""
    for word in argv:
        in_place = before == "--output_dir" and not word.startswith("WORK/")
        yield f"{work}/engine" if in_place else re.sub(r"^WORK(?=/|$)", work, word)
        before = word


def _filled(
    words: list[str], profile: DeploymentProfile, weights: str, work: str
) -> tuple[str, ...]:
    values = _values(profile, weights, work)
    made: list[str] = []
    for word in words:
        if word == "{quantization_arg}":
            quantized = profile.quantization != "none"
            made += ["--quantization", profile.quantization] if quantized else []
        else:
            made.append(PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), word))
    return tuple(made)


def _values(profile: DeploymentProfile, weights: str, work: str) -> dict[str, str]:
    limits = profile.limits.model_dump()
    flags = profile.builder_flags
    plain = {
        name: getattr(profile, name)
        for name in PLACEHOLDERS
        if name in DeploymentProfile.model_fields and name not in limits
    }
    quantized = profile.quantization != "none"
    return {
        **{name: str(value or "") for name, value in plain.items()},
        **{name: str(value) for name, value in limits.items()},
        **{name: "enable" if flags.get(name, True) else "disable" for name in SWITCHES},
        "quantization_arg": f"--quantization {profile.quantization}" if quantized else "",
        "moe_tensor_parallel_size": str(profile.effective_moe_tensor_parallel_size),
        "moe_expert_parallel_size": str(profile.effective_moe_expert_parallel_size),
        "world_size": str(profile.world_size),
        "weights": weights,
        "work_dir": work,
        "checkpoint_dir": f"{work}/checkpoint",
        "output_dir": f"{work}/engine",
    }


def _words(template: str, env: Mapping[str, str]) -> list[str]:
    try:
        words = shlex.split(template.replace("\\\n", " "))
    except ValueError as error:
        raise _wrong([f"it can't be split into words: {error}"]) from None
    if problems := list(dict.fromkeys(_problems(words, env))):
        raise _wrong(problems)
    return words


def _problems(words: list[str], env: Mapping[str, str]) -> Iterator[str]:
    if not words:
        yield "it is empty"
        return
    if re.match(r"\w+=", words[0]):
        yield "it begins with a variable: write `env NAME=VALUE program …`"
    for word in words:
        for name in PLACEHOLDER.findall(word):
            if name not in PLACEHOLDERS:
                near = nearest(name, PLACEHOLDERS)
                hint = f"; did you mean {{{near[0]}}}?" if near else ""
                yield f"{{{name}}} is no placeholder{hint}"
        if word in OPERATORS:
            yield f"{word} would be a word of the command: no shell takes part; name a script"
        elif VARIABLE.search(word):
            yield (
                "a $ or ` stays as it is, since no shell takes part: the program inherits the "
                "environment and can read the variable itself"
            )
    yield from _secret_problems(words, env)


def _secret_problems(words: list[str], env: Mapping[str, str]) -> Iterator[str]:
    """Whatever stands in a command is seen by every process of the machine; its value is not told here."""
    values = {
        name: value
        for name, value in env.items()
        if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET
    }
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if name := next((name for name, value in values.items() if value in word), ""):
            yield f"it holds the value of ${name}: the program inherits that variable, leave it out"
        elif SECRET_WORD.search(word):
            yield "it holds what looks like a secret: give it as a variable of the environment"
        flag, _, value = word.partition("=")
        if flag.startswith("-") and SECRET_NAME.search(flag.lstrip("-")):
            given = value or following
            if given and not given.startswith("-"):
                yield f"{flag} takes a secret as a word: give it as a variable of the environment"


def _wrong(problems: list[str]) -> ProfileError:
    return ProfileError(
        "The template of the build command (--builder-cmd) can't be run.",
        why="\n".join(problems),
        fix=f"Placeholders are {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}.",
        page="01_build_engine",
    )
