"""What the lint says, for people and programs; that it agrees with Triton is tried on a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

import runbook_lib.lab
from runbook_lib.errors import UsageError
from runbook_lib.repository.lint import LintFinding, LintResult, lint
from runbook_lib.repository.skeleton import guide_layout, skeleton

CONFIG = """\
backend: "python"
max_batch_size: 4
input [ { name: "a" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "b" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"
KEYS = {"model", "rule", "severity", "message", "fix"}


def write(root: Path, **files: str) -> Path:
    """A repository of one model `m`; `__` in a name is a slash."""
    for name, text in ({"config.pbtxt": CONFIG, "1__model.py": CODE} | files).items():
        path = root / "m" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def only(root: Path, **more: str) -> LintFinding:
    """The one finding of a repository."""
    (finding,) = lint(root, **more).findings
    return finding


@pytest.mark.parametrize(
    ("text", "place", "nearest"),
    [
        ("max_batchsize: 4", "1:1", "max_batch_size"),
        ("input { datatype: TYPE_INT32 }", "1:9", "data_type"),
    ],
)
def test_an_unknown_field_is_told_with_its_place_and_the_nearest(
    tmp_path: Path, text: str, place: str, nearest: str
) -> None:
    write(tmp_path, **{"config.pbtxt": text})
    finding = only(tmp_path)
    assert f"does not parse: {place} " in finding.message
    assert finding.fix == f"Did you mean {nearest}?"


def test_a_good_repository_has_no_finding(tmp_path: Path) -> None:
    result = lint(write(tmp_path))
    assert result.ok
    assert result.to_dict() == {"ok": True, "findings": []}
    assert str(result) == f"{tmp_path}: Triton loads every model."


def test_each_finding_says_where_what_and_how_to_mend_it(tmp_path: Path) -> None:
    guide_layout(tmp_path / "models")
    result = lint(tmp_path / "models")
    told = result.to_dict()
    assert told["ok"] is False
    assert all(one.keys() == KEYS and all(one.values()) for one in told["findings"])
    for one in result.findings:
        assert one.message in str(result)
        assert one.fix in str(result)


def test_the_guides_trap_is_explained_with_the_command_that_mends_it(tmp_path: Path) -> None:
    guide_layout(tmp_path)
    first = next(one for one in lint(tmp_path).findings if one.model == "ensemble")
    assert first.rule == "config_in_version"
    assert "beside the version folders, as ensemble/config.pbtxt" in first.message
    assert first.fix == f"mv {tmp_path}/ensemble/1/config.pbtxt {tmp_path}/ensemble/config.pbtxt"


def test_errors_stand_before_warnings(tmp_path: Path) -> None:
    files = {"config.pbtxt": CONFIG + "nonsense: 1", ".ipynb_checkpoints__x": "x"}
    severities = [one.severity for one in lint(write(tmp_path, **files)).findings]
    assert severities == ["error", "warning"]


def test_a_missing_folder_a_file_and_a_model_are_no_repository(tmp_path: Path) -> None:
    write(tmp_path)
    assert only(tmp_path / "absent").rule == "no_repository"
    assert "is a file" in only(tmp_path / "m" / "config.pbtxt").message
    rules = {one.rule for one in lint(tmp_path / "m").findings}
    assert "model_as_root" in rules
    assert not lint(tmp_path / "m").ok


def test_a_repository_without_models_serves_nothing_and_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    assert (only(tmp_path).rule, only(tmp_path).severity) == ("empty", "error")


def test_strings_as_bytes_are_told_with_the_right_name(tmp_path: Path) -> None:
    write(tmp_path, **{"config.pbtxt": CONFIG.replace("TYPE_STRING", "TYPE_BYTES")})
    assert "TYPE_BYTES" in only(tmp_path).message
    assert only(tmp_path).fix == "Write TYPE_STRING."


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, **{"config.pbtxt": CONFIG + "nonsense: 1\n"})
    assert "5:1" in only(tmp_path).message


def test_an_unfilled_placeholder_is_named(tmp_path: Path) -> None:
    write(tmp_path, **{"config.pbtxt": CONFIG.replace("size: 4", "size: ${max_batch_size}")})
    assert (only(tmp_path).rule, only(tmp_path).severity) == ("placeholder", "error")
    assert "${max_batch_size}" in only(tmp_path).message


def test_a_placeholder_in_a_comment_is_no_placeholder(tmp_path: Path) -> None:
    assert lint(write(tmp_path, **{"config.pbtxt": "# ${x}\n" + CONFIG})).findings == ()


@pytest.mark.parametrize("content", ["", None])
def test_a_version_that_a_store_would_drop_is_a_warning(
    tmp_path: Path, content: str | None
) -> None:
    skeleton(tmp_path / "s")
    placeholder = tmp_path / "s" / "ensemble" / "1" / "placeholder.txt"
    placeholder.unlink()
    if content is not None:
        placeholder.write_text(content)
    finding = only(tmp_path / "s")
    assert (finding.model, finding.rule, finding.severity) == (
        "ensemble",
        "empty_version",
        "warning",
    )
    assert lint(tmp_path / "s").ok


def test_the_code_is_read_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')\n" + CODE
    assert lint(write(tmp_path / "r", **{"1__model.py": code})).ok
    assert not mark.exists()


def test_packages_of_an_unknown_server_are_named_once_and_no_error(tmp_path: Path) -> None:
    code = (
        "import json, numpy, triton_python_backend_utils\nimport torch.nn\nfrom beside import x\n"
    )
    files = {"1__model.py": code + CODE, "1__beside.py": "x = 1\n"}
    finding = only(write(tmp_path, **files), backends="trtllm")
    assert (finding.rule, finding.severity) == ("packages", "warning")
    assert finding.message.endswith(": torch.")


def test_a_package_that_the_cpu_server_lacks_is_an_error_with_its_line(tmp_path: Path) -> None:
    files = {"1__model.py": "import json\nimport torch\n" + CODE}
    finding = only(write(tmp_path, **files))
    assert (finding.rule, finding.severity) == ("import", "error")
    assert finding.message.startswith("1/model.py:2 ")
    assert "No module named 'torch'" in finding.message


def test_a_warning_of_the_compiler_is_none_of_ours(tmp_path: Path) -> None:
    assert lint(write(tmp_path, **{"1__model.py": 'x = "\\d"\n' + CODE})).findings == ()


def test_a_model_without_execute_loads_and_is_warned_of(tmp_path: Path) -> None:
    finding = only(write(tmp_path, **{"1__model.py": "class TritonPythonModel:\n    x = 1\n"}))
    assert (finding.rule, finding.severity) == ("execute", "warning")


@pytest.mark.parametrize(
    ("backends", "ok"),
    [("cpu", False), ("trtllm", True), ("python", False), ("python, tensorrtllm", True)],
)
def test_backends_are_those_of_the_server_that_is_meant(
    tmp_path: Path, backends: str, ok: bool
) -> None:
    files = {"config.pbtxt": CONFIG.replace("python", "tensorrtllm"), "1__rank0.engine": "x"}
    result = lint(write(tmp_path, **files), backends=backends)
    assert result.ok == ok
    assert ok or "not in this server, which has: python" in result.findings[0].message


def test_a_gpu_instance_is_wrong_on_the_cpu_server_only(tmp_path: Path) -> None:
    write(tmp_path, **{"config.pbtxt": CONFIG + "instance_group [ { kind: KIND_GPU } ]"})
    assert only(tmp_path).rule == "instance_group"
    assert lint(tmp_path, backends="trtllm").ok


def test_no_backends_at_all_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No backend"):
        lint(tmp_path, backends=" , ")


def test_the_labs_own_models_are_right_once_they_are_filled(tmp_path: Path) -> None:
    templates = Path(runbook_lib.lab.__file__).parent / "triton_models"
    rules = {one.rule for one in lint(templates).findings if one.severity == "error"}
    assert rules <= {"placeholder", "no_version", "broken_part"}


def test_a_result_with_only_warnings_is_ok() -> None:
    warning = LintFinding("m", "packages", "warning", "needs torch", "install it")
    result = LintResult("models", (warning,))
    assert result.ok
    assert str(result).startswith("models: Triton loads every model, 1 warnings.")
