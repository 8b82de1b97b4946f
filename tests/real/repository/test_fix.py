"""Broken trees, repaired, before a real Triton: it loads every model exactly when the lint is content.

Each tree is the skeleton under names of its own, damaged in one way, so that one server can judge
all repaired trees side by side: it starts whatever they do.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook_lib.lab import environment
from runbook_lib.repository.fix import Fixed, fix
from runbook_lib.repository.skeleton import guide_layout, skeleton
from runbook_lib.serving.supervise import Owner, stop
from runbook_lib.serving.triton import generate, post_json, start_triton

NAMES = ("ensemble", "tensorrt_llm_bls", "tokenizer")


def edit(model: Path, old: str, new: str) -> None:
    path = model / "config.pbtxt"
    text = path.read_text("utf-8")
    assert old in text, f"{path} has no {old}"
    path.write_text(text.replace(old, new))


def of_the_ensemble(models: Path) -> Path:
    return next(models.glob("*ensemble"))


def of_the_tokenizer(models: Path) -> Path:
    return next(models.glob("*tokenizer"))


def config_in_version(models: Path) -> None:
    for model in list(models.iterdir()):
        (model / "config.pbtxt").rename(model / "1/config.pbtxt")


def wire_types(models: Path) -> None:
    for model in models.iterdir():
        edit(model, "TYPE_STRING", "TYPE_BYTES")
        edit(model, "TYPE_INT32", "INT32")


def as_in_the_guide(models: Path) -> None:
    wire_types(models)
    no_versions_in_steps(models)
    empty_version(models)
    config_in_version(models)


def no_versions_in_steps(models: Path) -> None:
    edit(of_the_ensemble(models), "      model_version: -1\n", "")


def no_version_folder(models: Path) -> None:
    shutil.rmtree(of_the_ensemble(models) / "1")


def empty_version(models: Path) -> None:
    (of_the_ensemble(models) / "1/placeholder.txt").unlink()


def other_names(models: Path) -> None:
    for model in models.iterdir():
        edit(model, f'\nname: "{model.name}"', f'\nname: "old_{model.name}"')


def windows(models: Path) -> None:
    for path in models.glob("*/config.pbtxt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


def leftovers(models: Path) -> None:
    for folder in (models, of_the_tokenizer(models)):
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / ".ipynb_checkpoints/config-checkpoint.pbtxt").write_text("x")
    (of_the_tokenizer(models) / "config.pbtxt~").write_text("x")


def one_model(models: Path) -> None:
    """The root is the tokenizer itself."""
    for model in list(models.iterdir()):
        if model == of_the_tokenizer(models):
            continue
        shutil.rmtree(model)
    model = of_the_tokenizer(models)
    for path in model.iterdir():
        path.rename(models / path.name)
    model.rmdir()


def a_placeholder_for_a_number(models: Path) -> None:
    wire_types(models)
    edit(of_the_tokenizer(models), "max_batch_size: 64", "max_batch_size: ${batch}")


def a_step_for_an_unknown_model(models: Path) -> None:
    no_versions_in_steps(models)
    edit(of_the_ensemble(models), 'model_name: "', 'model_name: "not_')


def a_backend_that_is_not_there(models: Path) -> None:
    config_in_version(models)
    for path in models.glob("*tensorrt_llm_bls/1/config.pbtxt"):
        path.write_text(path.read_text().replace('"python"', '"tensorrtllm"'))


def too_deep(models: Path) -> None:
    folders = list(models.iterdir())
    (models / "llama").mkdir()
    for folder in folders:
        folder.rename(models / "llama" / folder.name)


def misspelt(models: Path) -> None:
    for model in models.iterdir():
        (model / "config.pbtxt").rename(model / "config.pbtext")
        (model / "1").rename(model / "v1")


def code_beside(models: Path) -> None:
    model = of_the_tokenizer(models)
    (model / "1/model.py").rename(model / "model.py")
    (model / "1").rmdir()


REPAIRED: tuple[Callable[[Path], None], ...] = (
    wire_types,
    as_in_the_guide,
    no_versions_in_steps,
    no_version_folder,
    other_names,
    windows,
    leftovers,
    one_model,
    too_deep,
    misspelt,
    code_beside,
)
NOT_REPAIRED: tuple[Callable[[Path], None], ...] = (
    a_placeholder_for_a_number,
    a_step_for_an_unknown_model,
    a_backend_that_is_not_there,
)


def damaged(folder: Path, number: int, damage: Callable[[Path], None]) -> Path:
    """The skeleton with a prefix to every name, damaged."""
    models = folder / f"t{number:02d}" / "models"
    skeleton(models)
    prefix = f"t{number:02d}_"
    for path in (*models.glob("*/config.pbtxt"), *models.glob("*/1/model.py")):
        named = re.compile(rf'(name: |ask\()"({"|".join(NAMES)})"')
        path.write_text(named.sub(rf'\1"{prefix}\2"', path.read_text()))
    for name in NAMES:
        (models / name).rename(models / f"{prefix}{name}")
    damage(models)
    return models


@dataclass(frozen=True)
class Judged:
    """Each damage's repair, and one real Triton that loaded what it could of all of them."""

    url: str
    repairs: dict[str, Fixed]
    states: dict[str, str]

    def of(self, damage: str) -> tuple[Fixed, dict[str, str]]:
        """The repair, and the state of each of its models."""
        fixed = self.repairs[damage]
        return fixed, {path.name: self.states[path.name] for path in Path(fixed.path).iterdir()}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    folder, root = tmp_path_factory.mktemp("trees"), tmp_path_factory.mktemp("served") / "models"
    repairs = {}
    for number, damage in enumerate((*REPAIRED, *NOT_REPAIRED)):
        models = damaged(folder, number, damage)
        repairs[damage.__name__] = fix(models, models.with_name("fixed"))
        shutil.copytree(models.with_name("fixed"), root, dirs_exist_ok=True)
    install = environment.ensure().triton
    server, _ = start_triton(
        install, str(root), root.parent, owner=Owner.this_process(), strict=False
    )
    index = post_json(f"{server.facts['http']}/v2/repository/index", {})
    states = {one["name"]: one.get("state", "") for one in index}
    yield Judged(server.facts["http"], repairs, states)
    stop(server)


@pytest.mark.parametrize("damage", [one.__name__ for one in REPAIRED])
def test_triton_loads_what_was_repaired(judged: Judged, damage: str) -> None:
    fixed, states = judged.of(damage)
    assert fixed.ok, str(fixed)
    assert not fixed.left
    assert set(states.values()) == {"READY"}
    assert len(states) == (1 if damage == "one_model" else 3)
    assert fixed.changes


@pytest.mark.parametrize("damage", [one.__name__ for one in NOT_REPAIRED])
def test_what_is_left_is_what_triton_refuses(judged: Judged, damage: str) -> None:
    fixed, states = judged.of(damage)
    assert not fixed.ok
    assert fixed.changes
    refused = {one.model for one in fixed.left if one.severity == "error"}
    assert {name for name, state in states.items() if state != "READY"} == refused


def test_the_guides_own_tree_loads_and_answers_once_it_is_repaired(tmp_path: Path) -> None:
    guide_layout(tmp_path / "guide")
    fixed = fix(tmp_path / "guide", tmp_path / "models")
    assert fixed.ok, str(fixed)
    install, owner = environment.ensure().triton, Owner.this_process()
    server, _ = start_triton(install, str(tmp_path / "models"), tmp_path, owner=owner, timeout=30)
    try:
        answer = generate(server.facts["http"], "ensemble", "hello world", max_tokens=5)
        assert (answer["text_output"], answer["output_lengths"]) == ("hello", 5)
    finally:
        stop(server)


def test_a_repaired_tree_answers_as_the_skeleton_does(judged: Judged) -> None:
    _, states = judged.of("as_in_the_guide")
    (name,) = (one for one in states if one.endswith("_ensemble"))
    assert generate(judged.url, name, "hello world", max_tokens=5)["text_output"] == "hello"
