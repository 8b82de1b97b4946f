"""Stand-ins for TensorRT-LLM's tools: programs on PATH that take its flags and write what it writes.

They force what no machine without a GPU can show: an SM, a build log, a network that fails twice.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import textwrap
from pathlib import Path

import pytest

from runbook_lib.profile import DeploymentProfile

_path = Path(__file__).parents[2] / "unit" / "engine" / "engine_samples.py"
_spec = importlib.util.spec_from_file_location("engine_samples", _path)
_samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_samples)

BUILD = f"""\
#!{sys.executable}
import json, os, struct, sys, time
words = sys.argv[1:]
given = {{words[n]: words[n + 1] for n in range(0, len(words) - 1, 2)}}
out = given["--output_dir"]
os.makedirs(out)
print("[TRT] [I] Engine generation completed in 35.9738 seconds.", flush=True)
exec(os.environ.get("IN_THE_BUILD", ""))
config = json.loads({json.dumps(json.dumps(_samples.config("1.2.0")))})
config["build_config"] |= {{n: int(given["--" + n]) for n in {list(_samples.LIMITS)!r}}}
config["version"] = "1.2.1"
json.dump(config, open(out + "/config.json", "w"))
open(out + "/rank0.engine", "wb").write(
    b"ftrt" + bytes(20) + bytes([10, 14, 1, 48]) + os.urandom(4096))
print("[TRT-LLM] [I] Engine serialized. Total time: 00:00:02")
print("[TRT-LLM] [I] Build phase peak memory: 6978.95 MB, children: 21.05 MB")
"""
CONVERT = """\
#!/bin/sh
# the checkpoint step: python3 SCRIPT --model_dir M --output_dir O …
mkdir -p "$5" && echo "{}" > "$5/config.json"
printf 'Loading checkpoint shards:  50%%|# |\\rLoading checkpoint shards:  50%%|# |\\n'
echo "Total time of converting checkpoints: 00:00:31"
"""
SMI = """\
#!/bin/sh
echo "NVIDIA H100 80GB HBM3, 9.0, 580.95.05"
"""


def program(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(textwrap.dedent(text))
    path.chmod(0o755)


@pytest.fixture
def samples():
    """Engine directories as the releases write them."""
    return _samples


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A machine with an H100 and TensorRT-LLM, as far as its programs tell."""
    folder = tmp_path / "bin"
    for name, text in (("trtllm-build", BUILD), ("python3", CONVERT), ("nvidia-smi", SMI)):
        program(folder, name, text)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def profile(weights):
    """Llama 7B for an H100, with 1.2.1."""
    return DeploymentProfile.model_validate(
        {
            "model_name": "llama-7b",
            "trtllm_version": "1.2.1",
            "weights": str(weights),
            "gpu": "H100-SXM-80GB",
            "max_batch_size": 8,
        }
    )
