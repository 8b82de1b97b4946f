"""Every family, precision, cache and split, with every release of both tracks: parsed or refused.

What isn't refused goes through the release's own argument parser, made from its recorded options
(tests/unit/engine/conftest.py); the tests draw samples from the same space.
"""

import importlib.util
import json
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from time import perf_counter

from runbook_lib.engine import llmapi_releases, releases
from runbook_lib.engine.commands import commands
from runbook_lib.engine.families import FAMILIES
from runbook_lib.errors import PlanError
from runbook_lib.profile import DeploymentProfile
from runbook_lib.profile_words import QUANTIZED

HERE = Path(__file__).resolve().parent
SPEC = importlib.util.spec_from_file_location(
    "parsers", HERE.parent / "unit" / "engine" / "conftest.py"
)
parsers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(parsers)

SPLITS = (
    {},
    {"tensor_parallel_size": 2},
    {"tensor_parallel_size": 2, "moe_expert_parallel_size": 2},
    {"pipeline_parallel_size": 2},
    {"context_parallel_size": 2},
)


def wishes():
    for family, dtype, quantization, cache, split in product(
        FAMILIES, ("float16", "bfloat16", "float32"), QUANTIZED, ("", "int8", "fp8"), SPLITS
    ):
        yield {
            "model_family": family,
            "dtype": dtype,
            "quantization": quantization,
            "kv_cache_dtype": cache or dtype,
            **split,
        }


def words_of(found):
    """Each command that a parser is recorded for: its tool and its words."""
    for one in found:
        if one.step == "convert_checkpoint":
            yield one.argv[1].split("/")[-2], one.argv[2:]
        elif one.step == "quantize":
            name = "hf_ptq" if one.argv[1].endswith("hf_ptq.py") else "quantize"
            yield name, one.argv[2:]
        elif one.step == "trtllm-build":
            yield "trtllm-build", one.argv[1:]
        elif one.step == "serve":
            yield "trtllm-serve", one.argv[2:]


def tried(track, version, parser):
    counts = Counter()
    for wish in wishes():
        profile = DeploymentProfile(model_name="m", track=track, trtllm_version=version, **wish)
        try:
            found = commands(profile, weights="/w", work="WORK")
        except PlanError:
            counts["refused"] += 1
            continue
        for tool, words in words_of(found):
            parser.parse(version, tool, words)
        counts["parsed"] += 1
    return dict(counts)


def main():
    data, further = parsers.read("releases.json"), parsers.read("converters.json")
    engine = parsers.Recorded(data | {"tools": data["tools"] | further["tools"]})
    api = parsers.Recorded(parsers.read("llmapi.json"))
    began = perf_counter()
    grid = {
        "engine": {one: tried("engine", one, engine) for one in releases.VERSIONS},
        "llmapi": {one: tried("llmapi", one, api) for one in llmapi_releases.VERSIONS},
    }
    totals = {
        track: {
            word: sum(one[word] for one in by_release.values()) for word in ("parsed", "refused")
        }
        for track, by_release in grid.items()
    }
    seconds = round(perf_counter() - began, 1)
    json.dump({"seconds": seconds, "totals": totals, "releases": grid}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
