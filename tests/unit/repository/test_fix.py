"""What a repair makes of a repository, and what it leaves alone; Triton judges it in tests/real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runbook_lib.cli import runbook
from runbook_lib.errors import RepositoryError, UsageError
from runbook_lib.files import list_files
from runbook_lib.repository.fix import Fixed, fix
from runbook_lib.repository.fix_config import repair_text
from runbook_lib.repository.lint import lint
from runbook_lib.repository.skeleton import guide_layout, skeleton

NAMES = ("ensemble", "tensorrt_llm_bls", "tokenizer")
Damage = Callable[[Path], None]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_bytes().decode()
    assert old in text, f"{path} has no {old}"
    path.write_bytes(text.replace(old, new).encode())


def config_in_version(model: Path) -> None:
    (model / "config.pbtxt").rename(model / "1/config.pbtxt")


def config_in_two_versions(model: Path) -> None:
    shutil.copytree(model / "1", model / "2")
    shutil.copy(model / "config.pbtxt", model / "2/config.pbtxt")
    config_in_version(model)


def wire_types(model: Path) -> None:
    edit(model / "config.pbtxt", "data_type: TYPE_STRING", "data_type: TYPE_BYTES")
    edit(model / "config.pbtxt", "data_type: TYPE_INT32", "data_type: INT32")


def another_name(model: Path) -> None:
    edit(model / "config.pbtxt", f'\nname: "{model.name}"', '\nname: "model_of_somebody"')


def windows(model: Path) -> None:
    data = (model / "config.pbtxt").read_bytes()
    (model / "config.pbtxt").write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))


def leftovers(model: Path) -> None:
    for name in (".ipynb_checkpoints/x", "1/.ipynb_checkpoints/model.py", "../.idea/x"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("x")
    for name in ("config.pbtxt~", "1/.model.py.swp", "1/#model.py#", ".DS_Store"):
        (model / name).write_text("x")
    (model / "1/.#model.py").symlink_to("somebody@host.1:2")


DAMAGES: tuple[Damage, ...] = (
    wire_types,
    another_name,
    windows,
    leftovers,
    config_in_version,
)


def no_versions_in_steps(ensemble: Path) -> None:
    edit(ensemble / "config.pbtxt", "      model_version: -1\n", "")


def no_version_folder(ensemble: Path) -> None:
    shutil.rmtree(ensemble / "1")


def empty_version(ensemble: Path) -> None:
    (ensemble / "1/placeholder.txt").unlink()


def empty_file(ensemble: Path) -> None:
    (ensemble / "1/placeholder.txt").write_text("")


OF_ENSEMBLES = (no_versions_in_steps, no_version_folder, empty_version, empty_file)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    skeleton(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    skeleton(tmp_path / "good")
    return tmp_path / "good"


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def repaired(models: Path) -> Fixed:
    return fix(models, models.with_name("fixed"))


def put_right(models: Path, good: Path) -> bool:
    """Whether a repair gives back the skeleton, and the damaged tree is as it was."""
    before = list_files(models)
    made = repaired(models)
    assert made.ok, str(made)
    assert not made.left
    assert list_files(models) == before
    assert made.changes
    return content(Path(made.path)) == content(good)


# -- each repair -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", [*DAMAGES, config_in_two_versions])
def test_what_was_damaged_is_put_right(models: Path, good: Path, damage: Damage, name: str) -> None:
    damage(models / name)
    if damage is config_in_two_versions:
        shutil.copytree(good / name / "1", good / name / "2")
    assert put_right(models, good)


@pytest.mark.parametrize("damage", OF_ENSEMBLES)
def test_what_was_damaged_in_an_ensemble_is_put_right(
    models: Path, good: Path, damage: Damage
) -> None:
    damage(models / "ensemble")
    assert put_right(models, good)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    chosen=st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from(DAMAGES)), min_size=1),
    ensemble=st.sampled_from(OF_ENSEMBLES[:1] + OF_ENSEMBLES[2:]),
)
def test_any_mix_of_damages_is_put_right(
    tmp_path: Path, chosen: set[tuple[str, Damage]], ensemble: Damage
) -> None:
    for name in ("models", "good", "fixed", "again"):
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    models, good = tmp_path / "models", tmp_path / "good"
    skeleton(models)
    skeleton(good)
    ensemble(models / "ensemble")
    # The configuration moves last: the other damages look for it beside the version folder.
    for name, damage in sorted(chosen, key=lambda one: DAMAGES.index(one[1])):
        damage(models / name)
    assert put_right(models, good)
    again = fix(tmp_path / "fixed", tmp_path / "again")
    assert (again.changes, again.diff) == ((), "")
    assert content(tmp_path / "again") == content(tmp_path / "fixed")


def test_a_correct_tree_is_copied_as_it_is(models: Path) -> None:
    made = repaired(models)
    assert (made.ok, made.changes, made.diff, made.left) == (True, (), "", ())
    assert content(Path(made.path)) == content(models)
    assert str(made) == f"nothing to repair: a copy\n{made.path}: Triton loads every model."


@pytest.mark.parametrize("damage", [*DAMAGES[:3], config_in_version, lambda _: None])
def test_a_single_model_gets_a_repository_of_its_own(
    models: Path, good: Path, tmp_path: Path, damage: Damage
) -> None:
    damage(models / "tokenizer")
    made = fix(models / "tokenizer", tmp_path / "fixed")
    assert made.ok
    assert "a single model, put into a repository of its own" in made.changes[0]
    name = "model_of_somebody" if damage is another_name else "tokenizer"
    assert [path.name for path in Path(made.path).iterdir()] == [name]
    if name == "tokenizer":
        assert content(Path(made.path) / name) == content(good / name)


def test_a_single_model_without_a_name_is_called_as_its_folder(models: Path) -> None:
    edit(models / "tokenizer/config.pbtxt", '\nname: "tokenizer"', '\nname: "../elsewhere"')
    made = fix(models / "tokenizer", models.with_name("fixed"))
    assert (Path(made.path) / "tokenizer/1/model.py").is_file()


def test_a_model_of_code_only_is_wrapped_too(models: Path) -> None:
    (models / "tokenizer/config.pbtxt").unlink()
    made = fix(models / "tokenizer", models.with_name("fixed"))
    assert made.ok
    assert (Path(made.path) / "tokenizer/1/model.py").is_file()


def test_a_repository_with_a_stray_configuration_is_not_taken_for_a_model(models: Path) -> None:
    shutil.copy(models / "tokenizer/config.pbtxt", models)
    made = repaired(models)
    assert {path.name for path in Path(made.path).iterdir()} == {*NAMES, "config.pbtxt"}
    assert [one.rule for one in made.left] == ["model_as_root"]


def test_an_ensemble_gets_the_version_that_its_policy_names(models: Path) -> None:
    shutil.rmtree(models / "ensemble/1")
    with (models / "ensemble/config.pbtxt").open("a") as handle:
        handle.write("version_policy { specific { versions: [ 4 ] } }\n")
    made = repaired(models)
    assert made.ok
    assert (Path(made.path) / "ensemble/4/placeholder.txt").stat().st_size > 0


# -- the text of a configuration -------------------------------------------------------------------


def never(_: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("{ data_type: FP32 }", "{ data_type: TYPE_FP32 }"),
        ("{ data_type:BOOL, }", "{ data_type:TYPE_BOOL, }"),
        ("< data_type: UINT8 >", "< data_type: TYPE_UINT8 >"),
        ("{ data_type: # the wire's\n BYTES }", "{ data_type: # the wire's\n TYPE_STRING }"),
        ('{ name: "data_type: BYTES" }', '{ name: "data_type: BYTES" }'),
        ("{ # data_type: BYTES\n }", "{ # data_type: BYTES\n }"),
        ("{ kind: BYTES }", "{ kind: BYTES }"),
        ("{ data_type: ${type} }", "{ data_type: ${type} }"),
        ("{ data_type: TYPE_FLOAT }", "{ data_type: TYPE_FLOAT }"),
        ("{ data_type: TYPE_FP32 }", "{ data_type: TYPE_FP32 }"),
    ],
)
def test_only_the_value_of_a_data_type_is_changed(text: str, right: str) -> None:
    assert repair_text(f"input [ {text} ]\n", "m", never)[0] == f"input [ {right} ]\n"


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('name: "other"', 'name: "m"'),
        ("name : 'other' # why", 'name : "m" # why'),
        ('name: "m"', 'name: "m"'),
        ("name: 'm'", "name: 'm'"),
        ('name: ""', 'name: ""'),
        ('name: "${model}"', 'name: "${model}"'),
        ('name: "o" "ther"', 'name: "o" "ther"'),
        ('name: "a" name: "b"', 'name: "a" name: "b"'),
        ('input { name: "a" }', 'input { name: "a" }'),
        ("max_batch_size: 4", "max_batch_size: 4"),
        ('} name: "other"', '} name: "other"'),
        ('input { name: "other"', 'input { name: "other"'),
    ],
)
def test_only_a_name_of_the_model_itself_is_changed(text: str, right: str) -> None:
    assert repair_text(text, "m", never)[0] == right


@pytest.mark.parametrize(
    ("step", "right"),
    [
        ('[ { model_name: "a" } ]', '[ { model_name: "a" model_version: -1 } ]'),
        ('{ model_name: "a" }', '{ model_name: "a" model_version: -1 }'),
        (': [{model_name:"a"}]', ': [{model_name:"a" model_version: -1}]'),
        ('[ { model_name: "a" model_version: 3 } ]', '[ { model_name: "a" model_version: 3 } ]'),
        (
            '[ { model_name: "a" model_version: ${v} } ]',
            '[ { model_name: "a" model_version: ${v} } ]',
        ),
        ('[ { model_name: "zero" } ]', '[ { model_name: "zero" } ]'),
        ("[ { } ]", "[ { } ]"),
    ],
)
def test_only_a_step_that_names_no_version_gets_one(step: str, right: str) -> None:
    text = 'max_batch_size: ${n}\nensemble_scheduling { step %s }\nlast: [ "x" ]\n'
    assert repair_text(text % step, "m", "zero".__eq__)[0] == text % right


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="{}[]<>:,#\"'\\$ \nab", max_size=40))
def test_a_text_that_is_no_configuration_is_left_alone(text: str) -> None:
    assert repair_text(text, "m", never) == (text, [])


# -- what needs somebody's knowledge ---------------------------------------------------------------


def test_a_placeholder_is_not_guessed(models: Path) -> None:
    edit(models / "tokenizer/config.pbtxt", "max_batch_size: 64", "max_batch_size: ${batch}")
    made = repaired(models)
    assert not made.ok
    assert not made.changes
    assert "placeholder" in {one.rule for one in made.left if one.model == "tokenizer"}


def test_code_that_is_missing_is_told_and_the_rest_is_repaired(models: Path) -> None:
    (models / "tokenizer/1/model.py").unlink()
    wire_types(models / "tokenizer")
    made = repaired(models)
    assert not made.ok
    assert [one.rule for one in made.left if one.severity == "error"] == ["model_py"]
    assert any("TYPE_BYTES" in one for one in made.changes)


def test_two_different_configurations_are_left_to_their_author(models: Path) -> None:
    config_in_two_versions(models / "tokenizer")
    edit(models / "tokenizer/2/config.pbtxt", "64", "32")
    made = repaired(models)
    assert not made.changes
    assert "config_in_version" in {one.rule for one in made.left}
    assert content(Path(made.path)) == content(models)


def test_a_configuration_that_is_no_utf_8_keeps_its_bytes(models: Path) -> None:
    data = b'backend: "python"\n# \xff\n'
    (models / "tokenizer/config.pbtxt").write_bytes(data)
    made = repaired(models)
    assert (Path(made.path) / "tokenizer/config.pbtxt").read_bytes() == data


def test_the_guides_tree_becomes_valid_and_says_what_stands_in(tmp_path: Path) -> None:
    guide_layout(tmp_path / "models")
    before = content(tmp_path / "models")
    made = repaired(tmp_path / "models")
    assert content(tmp_path / "models") == before
    assert (made.ok, made.left) == (True, ())
    told = "\n".join(made.changes)
    assert "tensorrt_llm_bls: nothing in this server runs its engine" in told
    assert "answers with the prompt's own tokens" in told
    assert "tokenizer: no code reads its tokenizer.json" in told
    held = content(tmp_path / "fixed")
    for path in ("tensorrt_llm_bls/1/model.plan", "tokenizer/1/tokenizer.json"):
        assert held[path] == before[path]


def test_an_engine_that_the_server_runs_is_not_replaced(tmp_path: Path) -> None:
    guide_layout(tmp_path / "models")
    made = fix(tmp_path / "models", tmp_path / "fixed", backends="trtllm")
    assert made.ok
    assert (
        'backend: "tensorrtllm"' in (tmp_path / "fixed/tensorrt_llm_bls/config.pbtxt").read_text()
    )
    assert not (tmp_path / "fixed/tensorrt_llm_bls/1/model.py").exists()
    assert not any("stands in and answers" in one for one in made.changes)


def test_models_with_code_of_their_own_are_never_completed(models: Path) -> None:
    (models / "tokenizer/1/model.py").unlink()
    made = repaired(models)
    assert [(one.model, one.rule) for one in made.left if one.severity == "error"]
    assert not (Path(made.path) / "tokenizer/1/model.py").exists()


@pytest.mark.parametrize("above", ["llama", "llama/triton/models"])
def test_models_that_lie_too_deep_are_lifted(models: Path, good: Path, above: str) -> None:
    deep = models.with_name("deep")
    shutil.copytree(models, deep / above)
    made = fix(deep, models.with_name("fixed"))
    assert made.ok
    assert content(Path(made.path)) == content(good)
    assert f"{above}: its models put where Triton looks for them" in made.changes


@pytest.mark.parametrize("name", ["config.pbtext", "config.pbtxt.txt", "Config.pbtxt"])
def test_a_configuration_with_a_misspelt_name_is_renamed(
    models: Path, good: Path, name: str
) -> None:
    (models / "tokenizer/config.pbtxt").rename(models / "tokenizer" / name)
    assert put_right(models, good)


@pytest.mark.parametrize("name", ["v1", "01", "version_1"])
def test_a_version_that_triton_does_not_count_is_renamed(
    models: Path, good: Path, name: str
) -> None:
    (models / "tokenizer/1").rename(models / "tokenizer" / name)
    assert put_right(models, good)


def test_code_beside_the_version_folder_that_is_not_there_gets_one(
    models: Path, good: Path
) -> None:
    (models / "tokenizer/1/model.py").rename(models / "tokenizer/model.py")
    (models / "tokenizer/1").rmdir()
    assert put_right(models, good)


# -- what is shown ---------------------------------------------------------------------------------


def test_the_diff_makes_the_new_configurations_of_the_old(tmp_path: Path) -> None:
    guide_layout(tmp_path / "models")
    made = repaired(tmp_path / "models")
    argv = ["git", "apply", "-"]
    subprocess.run(argv, cwd=tmp_path / "models", input=made.diff.encode(), check=True)
    applied, new = content(tmp_path / "models"), content(Path(made.path))
    added = [f"{name}/1/model.py" for name in ("tokenizer", "tensorrt_llm_bls")]
    for path in ("ensemble/1/placeholder.txt", *added):
        assert new.pop(path)
    assert applied == new
    assert made.diff in str(made)
    assert all(change in str(made) for change in made.changes)


def test_a_last_line_without_an_end_is_shown_as_git_does(models: Path) -> None:
    (models / "tokenizer/config.pbtxt").write_text('backend: "python"\nname: "x"')
    assert "\\ No newline at end of file\n" in repaired(models).diff


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(runbook, ["repo", "fix", *arguments], standalone_mode=False)


def test_the_command_repairs_beside_the_folder_and_says_what_is_left(tmp_path: Path) -> None:
    guide_layout(tmp_path / "models")
    (tmp_path / "models/tokenizer/1/config.pbtxt").write_text('backend: "nobodys"')
    (tmp_path / "models/other/1").mkdir(parents=True)  # not the guide's three alone
    run = ran(str(tmp_path / "models"))
    assert run.return_value == 1
    assert "repaired: ensemble: config.pbtxt moved" in run.output
    assert "nobodys" in run.output
    assert (tmp_path / "models-fixed/ensemble/config.pbtxt").is_file()


def test_the_command_gives_json(models: Path, tmp_path: Path) -> None:
    wire_types(models / "tokenizer")
    output = str(tmp_path / "new")
    run = ran(str(models), "--output", output, "--json")
    told = json.loads(run.output)
    assert run.return_value == 0
    assert told.keys() == {"ok", "path", "changes", "diff", "left"}
    assert (told["ok"], told["path"], told["left"]) == (True, output, [])


def test_the_folder_one_stands_in_gets_its_own_name(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    assert ran(".").return_value == 0
    assert models.with_name("models-fixed").is_dir()


# -- what is refused before anything is written ----------------------------------------------------


def refused(folder: Path, output: Path, match: str) -> None:
    above = folder.parent
    before = sorted(above.rglob("*"))
    with pytest.raises(RepositoryError, match=match) as error:
        fix(folder, output)
    assert error.value.fix
    assert sorted(above.rglob("*")) == before


def test_a_folder_that_is_missing_or_a_file(models: Path) -> None:
    refused(models.with_name("nothing"), models.with_name("new"), "does not exist")
    models.with_name("file").write_text("x")
    refused(models.with_name("file"), models.with_name("new"), "is a file")


def test_an_output_that_exists(models: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    refused(models, tmp_path / "new", "exists already")
    (tmp_path / "link").symlink_to("nowhere")
    refused(models, tmp_path / "link", "exists already")


@pytest.mark.parametrize("inside", ["new", "tokenizer/new", "a/b/c", "../models/new"])
def test_an_output_inside_the_folder(models: Path, inside: str) -> None:
    refused(models, models / inside, "lies in")


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("tokenizer/1/x", "../../../outside"),
        ("tokenizer/1/x", "/etc"),
        ("x", "nowhere"),
        ("tokenizer/x", "x"),
        ("tokenizer/1/x", ".."),
        ("tokenizer/x", "."),
    ],
)
def test_a_link_that_leads_out_nowhere_or_in_a_circle(
    models: Path, place: str, target: str
) -> None:
    models.with_name("outside").write_text("secret")
    (models / place).symlink_to(target)
    refused(models, models.with_name("new"), "can't be copied|can't be read")


def test_links_that_lead_into_each_other(models: Path) -> None:
    (models / "tokenizer/x").symlink_to("../ensemble")
    (models / "ensemble/x").symlink_to("../tokenizer")
    refused(models, models.with_name("new"), "can't be copied")


def test_a_pipe(models: Path) -> None:
    os.mkfifo(models / "tokenizer/pipe")
    refused(models, models.with_name("new"), "can't be copied")


def test_backends_that_name_nothing(models: Path) -> None:
    with pytest.raises(UsageError):
        fix(models, models.with_name("new"), backends=",")
    assert not models.with_name("new").exists()


def test_a_link_inside_the_tree_becomes_the_file(models: Path) -> None:
    (models / "tokenizer/1/model.py").rename(models / "tokenizer/code.py")
    (models / "tokenizer/1/model.py").symlink_to("../code.py")
    made = repaired(models)
    copy = Path(made.path) / "tokenizer/1/model.py"
    assert made.ok
    assert copy.is_file()
    assert not copy.is_symlink()


def test_a_program_stays_one_and_a_file_nobody_may_write_is_repaired(models: Path) -> None:
    (models / "tokenizer/1/program").write_text("x")
    (models / "tokenizer/1/program").chmod(0o555)
    (models / "tokenizer/config.pbtxt").chmod(0o444)
    wire_types(models / "ensemble")
    made = Path(repaired(models).path)
    assert (made / "tokenizer/1/program").stat().st_mode & 0o111
    assert (made / "tokenizer/config.pbtxt").stat().st_mode & 0o200


def test_a_repair_that_fails_half_way_leaves_nothing(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copy", full)
    refused(models, models.with_name("new"), "could not be written")


def test_the_lint_of_the_repaired_tree_is_the_one_told(tmp_path: Path) -> None:
    guide_layout(tmp_path / "models")
    made = repaired(tmp_path / "models")
    assert lint(Path(made.path)).findings == made.left
