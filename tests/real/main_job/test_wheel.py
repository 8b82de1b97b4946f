"""The wheel alone in an empty environment: pages and profiles inside, and the first pages run."""

import os
import subprocess
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.timeout(900)


def uv(*words):
    done = subprocess.run(
        [find_uv_bin(), "--no-progress", *map(str, words)],
        capture_output=True,
        text=True,
        cwd="/",
        env={key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The programs of an environment that holds the wheel and what it depends on."""
    work = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--out-dir", work / "dist", ROOT)
    (wheel,) = (work / "dist").glob("*.whl")
    uv("venv", "--python", "3.11", work / "env")
    uv("pip", "install", "--python", work / "env" / "bin" / "python", wheel)
    return work / "env" / "bin"


@pytest.fixture
def elsewhere(installed, bench):
    """`runbook` of that environment, from an empty folder."""
    return lambda *words: bench.end(bench.start(*words, program=installed / "runbook"))


def test_pages_and_profiles_are_inside(elsewhere):
    listed = elsewhere("list", "--json")
    assert listed.code == 0, listed
    assert len(listed.said["pages"]) == 7
    assert {"lab/tiny", "tensorrt-llm/llama-7b"} <= set(listed.said["profiles"])


def test_the_wheel_holds_the_pages_profiles_and_the_model_but_no_tests(installed):
    package = next(installed.parent.glob("lib/python3.11/site-packages/runbook_lib"))
    assert len(list(package.glob("_shipped/notebooks/0*.ipynb"))) == 7
    assert (package / "_shipped" / "profiles" / "lab" / "tiny.yaml").is_file()
    assert (package / "lab" / "model" / "model.safetensors").is_file()
    assert (package / "py.typed").is_file()
    assert not (package.parent / "tests").exists()


def test_the_first_pages_run_from_the_wheel(elsewhere):
    ended = elsewhere(
        *("run", "00_plan", "01_build_engine", "-p", "rebuild=true"),
        *("--approve", "auto", "--json"),
    )
    assert ended.code == 0, ended
    assert ended.said["pages"] == {"00_plan": "completed", "01_build_engine": "completed"}
    assert ended.record.artifact("engine")["identity"]["track"] == "lab"
    commands = ended.record.artifact("engine")["commands"]
    assert all("site-packages/runbook_lib" in argv[1] for argv in commands)
