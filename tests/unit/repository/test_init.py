"""What `repo init` writes for a GPU, and what page 02 lays out; real servers judge it in tests/real."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from runbook_lib.artifacts import Engine, EngineIdentity, Limits
from runbook_lib.cli import runbook
from runbook_lib.errors import EngineMismatchError, RepositoryError
from runbook_lib.lab import repositories
from runbook_lib.profile import DeploymentProfile
from runbook_lib.repository.config import parse_config
from runbook_lib.repository.init import Sources, begin
from runbook_lib.repository.lint import lint

FIVE = {"ensemble", "preprocessing", "tensorrt_llm", "postprocessing", "tensorrt_llm_bls"}
LIMITS = Limits(max_batch_size=4, max_input_len=64, max_seq_len=128, max_num_tokens=256)


def profile(**more: object) -> DeploymentProfile:
    given = {"model_name": "m", "profile": "m", "trtllm_version": "1.2.1", "max_batch_size": 16}
    return DeploymentProfile.model_validate(given | more)


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    folder.mkdir()
    mapping = {"tp_size": 2, "pp_size": 1}
    model = {"architecture": "LlamaForCausalLM", "dtype": "float16", "mapping": mapping}
    built = {"build_config": LIMITS.model_dump(), "pretrained_config": model}
    (folder / "config.json").write_text(json.dumps({"version": "1.2.1"} | built))
    for rank in range(2):
        (folder / f"rank{rank}.engine").write_text("engine")
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    return folder


def config(models: Path, name: str) -> object:
    return parse_config((models / name / "config.pbtxt").read_text(), where=name)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("version", ["0.12.0", "0.15.0", "0.19.0", "1.2.1"])
def test_an_engine_s_repository_is_whole_and_triton_would_load_it(
    tmp_path: Path, engine: Path, weights: Path, version: str
) -> None:
    made = begin(tmp_path / "models", profile(), Sources(engine, weights), version=version)
    assert made.missing == ()
    assert {path.name for path in (tmp_path / "models").iterdir()} == FIVE
    assert lint(tmp_path / "models", backends="trtllm").ok
    held = names(tmp_path / "models")
    assert {f"tensorrt_llm/1/{name.name}" for name in engine.iterdir()} <= held
    assert {
        f"{one}/1/tokenizer/tokenizer.json" for one in ("preprocessing", "postprocessing")
    } <= held
    assert all(path.stat().st_size for path in (tmp_path / "models").rglob("*") if path.is_file())


def test_what_is_not_at_hand_is_told_with_its_place_and_holds_it(tmp_path: Path) -> None:
    made = begin(tmp_path / "models", profile(), Sources())
    places = [one.partition(":")[0] for one in made.missing]
    assert places == ["tensorrt_llm/1", "preprocessing/1/tokenizer", "postprocessing/1/tokenizer"]
    for place in places:
        assert (tmp_path / "models" / place / "PUT_FILES_HERE.txt").read_text().startswith("Here")
    assert lint(tmp_path / "models", backends="trtllm").ok


def test_the_engine_s_own_limits_are_served(tmp_path: Path, engine: Path) -> None:
    begin(tmp_path / "models", profile(), Sources(engine, limits=LIMITS))
    assert {config(tmp_path / "models", name).max_batch_size for name in FIVE} == {4}  # type: ignore[attr-defined]


def test_the_engine_is_named_where_the_server_sees_it(tmp_path: Path) -> None:
    begin(tmp_path / "models", profile(), Sources(), mount="/srv/repository/")
    parameters = config(tmp_path / "models", "tensorrt_llm").parameters  # type: ignore[attr-defined]
    assert parameters["gpt_model_path"].string_value == "/srv/repository/tensorrt_llm/1"


@pytest.mark.parametrize("streaming", [True, False])
def test_streaming_decides_the_transaction_policy(tmp_path: Path, streaming: bool) -> None:
    begin(tmp_path / "models", profile(streaming=streaming), Sources())
    for name in ("tensorrt_llm", "tensorrt_llm_bls"):
        policy = config(tmp_path / "models", name).model_transaction_policy  # type: ignore[attr-defined]
        assert policy.decoupled is streaming


def test_an_llmapi_repository_brings_the_checkpoint_that_is_at_hand(
    tmp_path: Path, weights: Path
) -> None:
    begin(tmp_path / "models", profile(track="llmapi"), Sources(checkpoint=weights))
    told = yaml.safe_load((tmp_path / "models/tensorrt_llm/1/model.yaml").read_text())
    assert told["model"] == "checkpoint"
    assert told["max_batch_size"] == 16
    assert (tmp_path / "models/tensorrt_llm/1/checkpoint/model.safetensors").is_file()
    assert lint(tmp_path / "models", backends="trtllm").ok


@pytest.mark.parametrize(
    ("weights", "model", "missing"),
    [
        ("hf://meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-7b-hf", 0),
        ("/weights/nowhere", "checkpoint", 1),
        ("s3://bucket/weights", "checkpoint", 1),
    ],
)
def test_an_llmapi_repository_names_weights_that_the_llm_api_fetches(
    tmp_path: Path, weights: str, model: str, missing: int
) -> None:
    made = begin(tmp_path / "models", profile(track="llmapi", weights=weights), Sources())
    told = yaml.safe_load((tmp_path / "models/tensorrt_llm/1/model.yaml").read_text())
    assert (told["model"], len(made.missing)) == (model, missing)


def test_an_llmapi_repository_splits_experts_and_reads_long_prompts_in_parts(
    tmp_path: Path,
) -> None:
    ranks = {"tensor_parallel_size": 4, "moe_expert_parallel_size": 2}
    begin(tmp_path / "split", profile(track="llmapi", **ranks), Sources())
    told = yaml.safe_load((tmp_path / "split/tensorrt_llm/1/model.yaml").read_text())
    assert (told["moe_tensor_parallel_size"], told["moe_expert_parallel_size"]) == (2, 2)
    assert told["enable_chunked_prefill"] is False
    long = {"max_input_len": 4096, "max_num_tokens": 2048}
    begin(tmp_path / "long", profile(track="llmapi", **long), Sources())
    told = yaml.safe_load((tmp_path / "long/tensorrt_llm/1/model.yaml").read_text())
    assert (told["enable_chunked_prefill"], told["max_input_len"]) == (True, 4096)
    assert "moe_expert_parallel_size" not in told


@pytest.mark.parametrize("name", ["config.json", "rank0.engine"])
def test_an_engine_that_is_not_whole_is_refused_and_nothing_is_written(
    tmp_path: Path, engine: Path, name: str
) -> None:
    for path in engine.glob("rank*" if name.startswith("rank") else name):
        path.unlink()
    with pytest.raises(RepositoryError, match=name):
        begin(tmp_path / "models", profile(), Sources(engine))
    assert not (tmp_path / "models").exists()


def test_a_folder_that_holds_something_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/thesis.tex").write_text("mine")
    with pytest.raises(RepositoryError, match="not an empty folder"):
        begin(tmp_path / "models", profile(), Sources())
    assert names(tmp_path / "models") == {"thesis.tex"}


# -- the command -----------------------------------------------------------------------------------


LLAMA = ("--profile", "tensorrt-llm/llama-7b")


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(runbook, ["repo", "init", *arguments], standalone_mode=False)


def test_the_command_writes_a_profile_s_repository_of_a_release(
    tmp_path: Path, engine: Path
) -> None:
    run = ran(str(tmp_path / "models"), *LLAMA, "--engine", str(engine), "--json")
    told = json.loads(run.stdout)
    assert told.keys() == {"ok", "path", "files", "missing"}
    assert "TensorRT-LLM 1.2.1" in (tmp_path / "models/ensemble/config.pbtxt").read_text()
    # The engine's own limits, not the profile's.
    assert config(tmp_path / "models", "tensorrt_llm").max_batch_size == 4  # type: ignore[attr-defined]
    assert [one.partition("/")[0] for one in told["missing"]] == ["preprocessing", "postprocessing"]


def test_the_command_writes_another_release_when_asked(tmp_path: Path) -> None:
    assert ran(str(tmp_path / "models"), *LLAMA, "--trtllm", "0.16.0").exception is None
    assert "TensorRT-LLM 0.16.0" in (tmp_path / "models/ensemble/config.pbtxt").read_text()


def test_the_command_refuses_an_engine_of_another_release(tmp_path: Path, engine: Path) -> None:
    given = [*LLAMA, "--trtllm", "0.16.0", "--engine", str(engine)]
    refused = ran(str(tmp_path / "models"), *given).exception
    assert isinstance(refused, EngineMismatchError)
    assert not (tmp_path / "models").exists()


# -- page 02 ---------------------------------------------------------------------------------------


def built(folder: Path, compiler: str) -> Engine:
    identity = EngineIdentity(
        track="engine",
        target="sm90",
        compiler=compiler,
        dtype="float16",
        kv_cache_dtype="float16",
        limits=LIMITS,
    )
    return Engine(
        path=str(folder),
        identity=identity,
        files=(),
        engine_digest="sha256:" + "1" * 64,
        size_bytes=0,
        build_seconds=1,
        inputs_digest="sha256:" + "2" * 64,
        built_at=datetime.now(UTC),
    )


def test_page_02_lays_out_an_engine_of_a_gpu(tmp_path: Path, engine: Path) -> None:
    made = repositories.lay_out(profile(), built(engine, "TensorRT-LLM 1.2.1"), tmp_path / "models")
    assert set(made.models) == FIVE
    assert made.engine_digest == "sha256:" + "1" * 64
    assert any("preprocessing/1/tokenizer" in one for one in made.warnings)


def test_page_02_lays_out_a_checkpoint_of_the_llmapi_track(tmp_path: Path, weights: Path) -> None:
    its = profile(track="llmapi", weights=str(weights))
    made = repositories.lay_out(its, built(weights, "TensorRT-LLM 1.2.1"), tmp_path / "models")
    assert made.models == ("ensemble", "tensorrt_llm")
    assert made.warnings == ()


def test_page_02_refuses_an_engine_of_another_release(tmp_path: Path, engine: Path) -> None:
    with pytest.raises(EngineMismatchError, match=r"TensorRT-LLM 0\.21\.0"):
        repositories.lay_out(profile(), built(engine, "TensorRT-LLM 0.21.0"), tmp_path / "models")
    assert not (tmp_path / "models").exists()
