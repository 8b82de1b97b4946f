"""The command lines of each release, made from the flags that it is recorded with."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path

import pytest

import runbook_lib.engine

DATA = Path(runbook_lib.engine.__file__).parent / "data"
TYPES = {"int": int, "float": float, "str": str}


_spec = importlib.util.spec_from_file_location(
    "engine_samples", Path(__file__).with_name("engine_samples.py")
)
_samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_samples)


@pytest.fixture(scope="session")
def engines():
    """Engine directories as the releases write them."""
    return _samples


class RefusedError(Exception):
    pass


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise RefusedError(message)


def read(name):
    return json.loads((DATA / name).read_text("utf-8"))


class Recorded:
    """A record read without the library: entry by entry, each release from the one before."""

    def __init__(self, data):
        self.data = data
        self.flags = {}
        for tool, entries in data["tools"].items():
            flags = {}
            for version, entry in entries.items():
                for name in entry.get("gone", []):
                    flags.pop(name)
                flags |= entry.get("flags", {})
                self.flags[version, tool] = dict(flags)
        self._parsers = {}

    def parse(self, version, tool, words):
        """What the release's own parser makes of the words; it refuses as argparse does."""
        if (version, tool) not in self._parsers:
            self._parsers[version, tool] = self._parser(version, tool)
        return self._parsers[version, tool].parse_args(list(words))

    def _parser(self, version, tool):
        # An abbreviation that is taken for a flag is how --use_context_fmha once went wrong.
        made = Parser(prog=tool, allow_abbrev=False)
        if tool == "trtllm-serve":
            made.add_argument("model")
        for name, about in self.flags[version, tool].items():
            names = [name, *about.get("aliases", [])]
            if about["type"] == "switch":
                made.add_argument(*names, action="store_true")
                continue
            several = {"nargs": "+"} if about.get("many") else {}
            if "bare" in about:
                several = {"nargs": "?", "const": about["bare"]}
            made.add_argument(
                *names,
                type=TYPES[about["type"]],
                choices=about.get("choices"),
                default=about.get("default"),
                **several,
            )
        return made


@pytest.fixture(scope="session")
def recorded():
    """The engine track."""
    data, further = read("releases.json"), read("converters.json")
    made = Recorded(data | {"tools": data["tools"] | further["tools"]})
    made.templates, models = {}, {}
    for version, entry in data["templates"].items():
        models |= entry.get("models", {})
        made.templates[version] = dict(models)
    return made


@pytest.fixture(scope="session")
def recorded_api():
    """The llmapi track."""
    return Recorded(read("llmapi.json"))


@pytest.fixture(scope="session")
def refused_by_the_parser():
    return RefusedError
