"""The model repository on disk: the layout Triton loads, whole or not at all."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

import runbook_lib.lab
from runbook_lib.errors import RepositoryError
from runbook_lib.repository.config import fill_template, format_config, parse_config
from runbook_lib.repository.layout import LayoutSettings, write_repository

MODELS = Path(runbook_lib.lab.__file__).parent / "triton_models"
NAMES = {"ensemble", "preprocessing", "tensorrt_llm", "postprocessing", "tensorrt_llm_bls"}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Path]:
    """An engine and a tokenizer folder with the files that the layout asks for."""
    engine, tokenizer = tmp_path / "engine", tmp_path / "tokenizer"
    for folder, names in (
        (engine, ("config.json", "rank0.engine")),
        (tokenizer, ("tokenizer.json", "tokenizer_config.json", "model.safetensors")),
    ):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
    runtime = tmp_path / "engine_runtime.py"
    runtime.write_text("# runtime")
    return {"engine_dir": engine, "tokenizer_dir": tokenizer, "runtime": runtime}


def _write(dest: Path, given: dict[str, Path], models: Path = MODELS, **more: object) -> list[Path]:
    settings = LayoutSettings(
        models_dir=models,
        max_batch_size=16,
        runtime_files=(given["runtime"],),
        **more,  # type: ignore[arg-type]
    )
    return write_repository(
        dest,
        engine_dir=given["engine_dir"],
        tokenizer_dir=given["tokenizer_dir"],
        settings=settings,
    )


def test_every_configuration_stands_beside_its_version_folder(
    tmp_path: Path, given: dict[str, Path]
) -> None:
    files = _write(tmp_path / "models", given)
    assert {path.name for path in (tmp_path / "models").iterdir()} == NAMES
    configs = [path for path in files if path.name == "config.pbtxt"]
    assert {path.parent.name for path in configs} == NAMES
    assert all(
        any(path.parent.name == "1" for path in files if name in path.parts) for name in NAMES
    )


def test_no_file_is_empty_and_the_ensembles_version_folder_has_one(
    tmp_path: Path, given: dict[str, Path]
) -> None:
    files = _write(tmp_path / "models", given)
    assert all(path.stat().st_size for path in files)
    assert [path for path in files if path.parent == tmp_path / "models" / "ensemble" / "1"]


def test_each_model_brings_what_it_reads(tmp_path: Path, given: dict[str, Path]) -> None:
    _write(tmp_path / "models", given)
    for model in ("preprocessing", "postprocessing", "tensorrt_llm"):
        names = {path.name for path in (tmp_path / "models" / model / "1" / "tokenizer").iterdir()}
        assert names == {"tokenizer.json", "tokenizer_config.json"}
    engine = {path.name for path in (tmp_path / "models" / "tensorrt_llm" / "1").iterdir()}
    assert {"config.json", "rank0.engine", "engine_runtime.py", "model.py"} <= engine
    assert not (tmp_path / "models" / "preprocessing" / "1" / "rank0.engine").exists()


def test_the_settings_reach_the_configurations_triton_parses(
    tmp_path: Path, given: dict[str, Path]
) -> None:
    _write(tmp_path / "models", given, decoupled=False, bls_instances=3)
    parsed = {
        path.parent.name: parse_config(path.read_text(), where=str(path))
        for path in (tmp_path / "models").glob("*/config.pbtxt")
    }
    assert {config.max_batch_size for config in parsed.values()} == {16}
    assert not parsed["tensorrt_llm"].model_transaction_policy.decoupled
    assert parsed["tensorrt_llm_bls"].instance_group[0].count == 3
    assert parsed["tensorrt_llm"].parameters["gpt_model_path"].string_value == "."


def test_no_placeholder_is_left(tmp_path: Path, given: dict[str, Path]) -> None:
    assert not [path for path in _write(tmp_path / "models", given) if b"${" in path.read_bytes()]


def test_a_placeholder_without_a_value_is_named_and_nothing_is_written(
    tmp_path: Path, given: dict[str, Path]
) -> None:
    models = tmp_path / "templates"
    (models / "one").mkdir(parents=True)
    (models / "one" / "config.pbtxt").write_text('name: "one"\nmax_batch_size: ${mystery}\n')
    with pytest.raises(RepositoryError, match=r"one/config\.pbtxt .*\$\{mystery\}"):
        _write(tmp_path / "models", given, models)
    assert not (tmp_path / "models").exists()
    assert _write(tmp_path / "models", given, models, extra={"mystery": "4"})


def test_a_folder_that_holds_something_is_never_written_over(
    tmp_path: Path, given: dict[str, Path]
) -> None:
    _write(tmp_path / "models", given)
    with pytest.raises(RepositoryError, match="not an empty folder"):
        _write(tmp_path / "models", given)


@pytest.mark.parametrize(
    "path", ["engine/rank0.engine", "engine/config.json", "tokenizer/tokenizer.json"]
)
def test_a_missing_input_is_named_and_nothing_is_written(
    tmp_path: Path, given: dict[str, Path], path: str
) -> None:
    (tmp_path / path).unlink()
    with pytest.raises(RepositoryError, match=Path(path).name):
        _write(tmp_path / "models", given)
    assert not (tmp_path / "models").exists()


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path: Path, given: dict[str, Path]) -> None:
    models = tmp_path / "templates"
    for name, size in (("a", 10), ("b", 9000)):
        (models / name).mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(f'name: "{name}"\n')
        (models / name / "model.py").write_text("#" * size)
    before = {path.name for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(RepositoryError, match="could not be written"):
            _write(tmp_path / "models", given, models)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_parent_that_is_a_file_is_an_error_in_words(
    tmp_path: Path, given: dict[str, Path]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RepositoryError, match="could not be written"):
        _write(tmp_path / "file" / "models", given)


def test_a_configuration_written_and_parsed_is_the_same() -> None:
    values = dict.fromkeys(("triton_max_batch_size",), "4")
    text = fill_template(
        (MODELS / "ensemble" / "config.pbtxt").read_text(), values, where="ensemble"
    )
    config = parse_config(text, where="ensemble")
    assert parse_config(format_config(config), where="again") == config


def test_a_configuration_with_bytes_as_a_type_is_refused_with_its_line() -> None:
    with pytest.raises(
        RepositoryError, match="ensemble is not a Triton model configuration"
    ) as caught:
        parse_config(
            'name: "ensemble"\ninput [ { name: "a" data_type: TYPE_BYTES dims: [1] } ]',
            where="ensemble",
        )
    assert caught.value.why.startswith("2:")


def test_a_lone_dollar_sign_is_refused() -> None:
    with pytest.raises(RepositoryError, match="no placeholder"):
        fill_template("cost: 5$", {}, where="one")
    assert fill_template("cost: 5$$", {}, where="one") == "cost: 5$"
