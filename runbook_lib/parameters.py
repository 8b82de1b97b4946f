"""The pages and their parameters, in one schema.

It feeds the parameters cell, the form, the command line's help, the validation and the record.

Only the types that papermill 2.7 can read from a parameters cell are used.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runbook_lib.errors import ProfileError, UsageError

__all__ = [
    "PAGES",
    "Page",
    "Parameter",
    "page_named",
    "parameters_cell",
    "parse_assignments",
    "validate",
]

Scalar = str | int | float | bool
TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a page: `name: type = default  # help`."""

    name: str
    type: str
    default: Scalar
    help: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def problem(self, value: object) -> str:
        """Why a value can't be taken; empty when it can."""
        wanted = TYPES[self.type]
        fits = isinstance(value, wanted) or (wanted is float and isinstance(value, int))
        if not fits or (isinstance(value, bool) and wanted is not bool):
            return f"{self.name} must be {self.type}, not {type(value).__name__} ({value!r})"
        if self.choices and value not in self.choices:
            return f"{self.name} must be one of {', '.join(self.choices)}, not {value!r}"
        if (
            self.minimum is not None
            and isinstance(value, int | float)
            and not value >= self.minimum
        ):
            return f"{self.name} must be at least {self.minimum:g}, not {value!r}"
        if (
            self.maximum is not None
            and isinstance(value, int | float)
            and not value <= self.maximum
        ):
            return f"{self.name} must be at most {self.maximum:g}, not {value!r}"
        return ""

    def parse(self, text: str) -> Scalar:
        """A value from a command line's text.

        Raises:
            UsageError: the text is not of the parameter's type.
        """
        try:
            if self.type == "bool":
                return {"true": True, "false": False}[text.lower()]
            return TYPES[self.type](text)  # type: ignore[no-any-return]  # str, int or float of a text
        except (KeyError, ValueError):
            wanted = "true or false" if self.type == "bool" else self.type
            raise UsageError(f"-p {self.name}={text}: {self.name} must be {wanted}.") from None


@dataclass(frozen=True)
class Page:
    """One notebook: what it does, what it changes, how long it takes in the lab."""

    name: str
    title: str
    effect: str
    changes: str
    seconds: int
    parameters: tuple[Parameter, ...]
    makes: str


COMMON = (
    Parameter(
        "profile",
        "str",
        "lab/tiny",
        "deployment profile: a path, folder/name, or a name unique in profiles/",
    ),
    Parameter(
        "run",
        "str",
        "",
        "folder of the run to work in; empty: the newest of this profile, or a new one",
    ),
    Parameter(
        "target",
        "str",
        "lab",
        "where it runs: lab (this machine) or kserve",
        choices=("lab", "kserve"),
    ),
)
APPROVE = Parameter(
    "approve", "str", "", "digest of the plan that you approve, or auto where the profile allows it"
)
LOAD = (
    Parameter(
        "max_tokens", "int", 48, "output tokens asked for per request", minimum=1, maximum=100_000
    ),
    Parameter(
        "seed",
        "int",
        7,
        "seed of prompts and arrivals: the same seed sends the same load",
        minimum=0,
    ),
)

PAGES: tuple[Page, ...] = (
    Page(
        "00_plan",
        "Plan",
        "Says whether the model fits, in which shapes, with which commands, and what the next pages cost.",
        "nothing outside the run's folder",
        5,
        (
            *COMMON,
            Parameter(
                "traffic",
                "str",
                "",
                "CSV or JSON lines of prompt and answer lengths, or a load profile; empty: the profile's load",
            ),
            Parameter(
                "price_per_hour",
                "float",
                0.0,
                "of one GPU, in your currency; 0 tells no cost",
                minimum=0,
                maximum=100_000,
            ),
        ),
        "plan",
    ),
    Page(
        "01_build_engine",
        "Build the engine",
        "Converts the checkpoint and compiles the engine, or keeps the one whose receipt still holds.",
        "the engine cache of this user",
        20,
        (
            *COMMON,
            Parameter("rebuild", "bool", False, "build again although the receipt holds"),
            APPROVE,
        ),
        "engine",
    ),
    Page(
        "02_model_repository",
        "Lay out the model repository",
        "Writes Triton's layout, lints it, pushes it to the object store and verifies it by digest.",
        "the object store under the profile's URI",
        10,
        (
            *COMMON,
            Parameter("replace", "bool", False, "replace another engine stored under the same URI"),
            APPROVE,
        ),
        "repository",
    ),
    Page(
        "03_deploy",
        "Deploy",
        "Starts Triton on the stored repository, asks the model, and scales without building again.",
        "the servers of the target",
        20,
        (
            *COMMON,
            Parameter("replicas", "int", 2, "replicas to scale to", minimum=1, maximum=8),
            APPROVE,
        ),
        "service",
    ),
    Page(
        "04_benchmark",
        "Benchmark",
        "Puts closed and Poisson load on the service and tells TTFT, ITL and throughput with intervals.",
        "nothing; the service carries load",
        30,
        (
            *COMMON,
            Parameter(
                "requests",
                "int",
                400,
                "measured requests of each load",
                minimum=1,
                maximum=1_000_000,
            ),
            Parameter(
                "concurrency",
                "int",
                4,
                "requests in flight in the closed load",
                minimum=1,
                maximum=4096,
            ),
            Parameter(
                "rate",
                "float",
                0.0,
                "Poisson arrivals per second; 0: 60 % of the closed rate",
                minimum=0,
            ),
            *LOAD,
        ),
        "measurement",
    ),
    Page(
        "05_tradeoffs",
        "Weigh build time against performance",
        "Builds several engines of the model, measures each the same way, and shows what is worth it.",
        "the engine cache; servers of the target while they are measured",
        60,
        (
            *COMMON,
            Parameter(
                "requests",
                "int",
                200,
                "measured requests of each engine",
                minimum=1,
                maximum=1_000_000,
            ),
            Parameter("concurrency", "int", 4, "requests in flight", minimum=1, maximum=4096),
            *LOAD,
            Parameter("remeasure", "bool", False, "measure again although a receipt holds"),
            APPROVE,
        ),
        "tradeoff",
    ),
    Page(
        "06_troubleshoot",
        "Troubleshoot",
        "Reads the live service and names the cause of what is wrong, with the line that shows it.",
        "nothing; the drill breaks a server of its own, never the service",
        15,
        (
            *COMMON,
            Parameter(
                "drill", "bool", True, "break a server of our own on purpose and name the cause"
            ),
        ),
        "diagnosis",
    ),
)


def page_named(name: str) -> Page:
    """A page by its name, `03_deploy`, its number, `03`, or its word, `deploy`.

    Raises:
        UsageError: there is no such page; the nearest is named.
    """
    word = name.removesuffix(".ipynb").rpartition("/")[2]
    for page in PAGES:
        number, _, rest = page.name.partition("_")
        if word in {page.name, number, rest}:
            return page
    near = difflib.get_close_matches(word, [page.name for page in PAGES], n=1, cutoff=0.3)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(f"There is no page {name!r}.", fix=f"{hint}`runbook list` shows all.")


def parameters_cell(page: Page) -> str:
    """The source of the page's parameters cell."""
    lines = [
        f"{one.name}: {one.type} = {json.dumps(one.default) if one.type == 'str' else one.default}  # {one.help}"
        for one in page.parameters
    ]
    return "\n".join(lines)


def parse_assignments(page_names: list[str], assignments: Mapping[str, str]) -> dict[str, Scalar]:
    """Typed values of `-p NAME=VALUE`, each known to at least one of the pages.

    Raises:
        UsageError: no page has the name, or the text is not of its type.
    """
    known = {one.name: one for name in page_names for one in page_named(name).parameters}
    if unknown := [name for name in assignments if name not in known]:
        near = difflib.get_close_matches(unknown[0], list(known), n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"No page of this run has a parameter {unknown[0]!r}.",
            fix=f"{hint}Known: {', '.join(sorted(known))}.",
        )
    return {name: known[name].parse(text) for name, text in assignments.items()}


def validate(page: Page, values: Mapping[str, Any]) -> dict[str, Scalar]:
    """Every parameter of the page with its effective value: the given ones, else the defaults.

    Raises:
        ProfileError: an unknown name or a wrong value; all problems at once.
    """
    known = {one.name: one for one in page.parameters}
    problems = [f"{name} is no parameter of this page" for name in values if name not in known]
    problems += [
        text
        for name, value in values.items()
        if name in known and (text := known[name].problem(value))
    ]
    if problems:
        raise ProfileError(
            f"The parameters of {page.name} are wrong.",
            why="; ".join(problems),
            fix=f"`runbook describe {page.name}` shows each with its type and default.",
        )
    return {one.name: values.get(one.name, one.default) for one in page.parameters}
