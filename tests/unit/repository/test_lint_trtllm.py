"""Warnings of a TensorRT-LLM repository: what loads, and what will hurt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.profile import DeploymentProfile
from runbook_lib.repository.config_edit import edit_config
from runbook_lib.repository.findings import LintFinding
from runbook_lib.repository.init import Sources, begin
from runbook_lib.repository.lint import lint
from runbook_lib.repository.lint_trtllm import RULES

VOCABULARY = 100
BUILT = {"max_batch_size": 8, "max_beam_width": 1, "max_seq_len": 512}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with an engine and its tokenizer, in which nothing hurts."""
    engine, weights = tmp_path / "engine", tmp_path / "weights"
    for folder in (engine, weights):
        folder.mkdir()
    model = {"vocab_size": VOCABULARY, "mapping": {"tp_size": 2, "pp_size": 1}}
    config = {"build_config": dict(BUILT), "pretrained_config": model}
    config["build_config"]["plugin_config"] = {"use_paged_context_fmha": True}
    (engine / "config.json").write_text(json.dumps(config))
    for rank in range(2):
        (engine / f"rank{rank}.engine").write_text("engine")
    vocab = {"vocab": {str(number): number for number in range(VOCABULARY)}}
    (weights / "tokenizer.json").write_text(json.dumps({"model": vocab}))
    (weights / "tokenizer_config.json").write_text(json.dumps({"eos_token": "1"}))
    profile = DeploymentProfile.model_validate({"model_name": "m", "max_batch_size": 8})
    begin(tmp_path / "models", profile, Sources(engine, weights))
    return tmp_path / "models"


def edit(models: Path, name: str, **changes: str) -> None:
    path = models / name / "config.pbtxt"
    told = {field.replace("__", "."): value for field, value in changes.items()}
    path.write_text(edit_config(path.read_text(), told, where=name))


def parameter(models: Path, name: str, value: str) -> None:
    edit(models, "tensorrt_llm", **{f"parameters__{name}": value})


def without(models: Path, name: str, line: str) -> None:
    path = models / name / "config.pbtxt"
    lines = path.read_text().splitlines(keepends=True)
    kept = [one for one in lines if line not in one or one.startswith("#")]
    assert len(kept) < len(lines)
    path.write_text("".join(kept))


def engine(models: Path, **changes: object) -> None:
    path = models / "tensorrt_llm/1/config.json"
    config = json.loads(path.read_text())
    path.unlink()  # a link to the engine's own file
    config["build_config"] |= changes
    path.write_text(json.dumps(config))


def tokenizer(models: Path, model: str, name: str, content: object) -> None:
    path = models / model / "1/tokenizer" / name
    path.unlink()
    path.write_text(json.dumps(content))


def found(models: Path) -> list[LintFinding]:
    """The warnings of our rules; whatever they say, Triton loads it."""
    result = lint(models, backends="trtllm")
    assert result.ok, str(result)
    ours = [one for one in result.findings if one.rule.startswith("trtllm_")]
    assert all(one.severity == "warning" and one.fix for one in ours)
    return ours


def vocab(size: int) -> dict[str, object]:
    return {"model": {"vocab": {str(number): number for number in range(size)}}}


def test_nothing_hurts_in_what_is_written_here(models: Path) -> None:
    assert found(models) == []


CASES: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    "unknown parameter": (
        "trtllm_parameter",
        "no parameter kv_cache_free_gpu_mem_fracton",
        lambda models: parameter(models, "kv_cache_free_gpu_mem_fracton", "0.5"),
    ),
    "fraction out of range": (
        "trtllm_parameter",
        "must be at most 1",
        lambda models: parameter(models, "kv_cache_free_gpu_mem_fraction", "90"),
    ),
    "a word for a switch": (
        "trtllm_parameter",
        "must be true or false",
        lambda models: parameter(models, "enable_chunked_context", "on"),
    ),
    "batches one after the other": (
        "trtllm_batching",
        "gpt_model_type is V1",
        lambda models: parameter(models, "gpt_model_type", "V1"),
    ),
    "no strategy": (
        "trtllm_batching",
        "gpt_model_type is missing",
        lambda models: without(models, "tensorrt_llm", '"gpt_model_type"'),
    ),
    "prompt in the answer": (
        "trtllm_input_in_output",
        "begins with its prompt",
        lambda models: parameter(models, "exclude_input_in_output", "false"),
    ),
    "no limit of the cache": (
        "trtllm_kv_memory",
        "Nothing limits the KV cache",
        lambda models: without(models, "tensorrt_llm", '"kv_cache_free_gpu_mem_fraction"'),
    ),
    "all memory": (
        "trtllm_kv_memory",
        "no memory for its activations",
        lambda models: parameter(models, "kv_cache_free_gpu_mem_fraction", "0.99"),
    ),
    "less than a sequence": (
        "trtllm_kv_memory",
        "less than one sequence",
        lambda models: parameter(models, "max_tokens_in_paged_kv_cache", "511"),
    ),
    "many processes": (
        "trtllm_shared_memory",
        "66 processes",
        lambda models: edit(models, "tensorrt_llm_bls", instance_group__0__count="64"),
    ),
    "two instances": (
        "trtllm_instances",
        "2 instances",
        lambda models: edit(models, "tensorrt_llm", instance_group__0__count="2"),
    ),
    "a stream that is refused": (
        "trtllm_streaming",
        "a request to stream is refused",
        lambda models: edit(models, "tensorrt_llm", model_transaction_policy__decoupled="false"),
    ),
    "more beams than built": (
        "trtllm_beams",
        "the engine was built for 1",
        lambda models: parameter(models, "max_beam_width", "4"),
    ),
    "a larger batch than built": (
        "trtllm_limits",
        "the engine was built for 4",
        lambda models: engine(models, max_batch_size=4),
    ),
    "stop words that lead nowhere": (
        "trtllm_inputs",
        "stop words have no effect",
        lambda models: without(models, "ensemble", '"_STOP_WORDS_IDS"'),
    ),
    "no engine": (
        "trtllm_engine",
        "no engine lies there",
        lambda models: (models / "tensorrt_llm/1/config.json").unlink(),
    ),
    "a rank is missing": (
        "trtllm_engine",
        "lacks rank1.engine",
        lambda models: (models / "tensorrt_llm/1/rank1.engine").unlink(),
    ),
    "a relative path": (
        "trtllm_engine",
        "folder that the server was started in",
        lambda models: parameter(models, "gpt_model_path", "tensorrt_llm/1"),
    ),
    "reuse without its attention": (
        "trtllm_paged_context",
        "enable_kv_cache_reuse is true",
        lambda models: engine(models, plugin_config={"use_paged_context_fmha": False}),
    ),
    "a tokenizer that is too large": (
        "trtllm_vocabulary",
        "has 101 tokens, and the engine's vocabulary 100",
        lambda models: tokenizer(models, "preprocessing", "tokenizer.json", vocab(101)),
    ),
    "a tokenizer that is too small": (
        "trtllm_vocabulary",
        "probably another model's",
        lambda models: tokenizer(models, "postprocessing", "tokenizer.json", vocab(50)),
    ),
    "two tokenizers": (
        "trtllm_tokenizers",
        "different tokenizers",
        lambda models: tokenizer(models, "postprocessing", "tokenizer.json", vocab(99)),
    ),
    "nothing ends an answer": (
        "trtllm_stop_words",
        "names no eos_token",
        lambda models: tokenizer(models, "preprocessing", "tokenizer_config.json", {}),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_hurts_is_told_with_what_to_do(models: Path, case: str) -> None:
    rule, message, hurt = CASES[case]
    hurt(models)
    told = [one for one in found(models) if one.rule == rule]
    assert any(message in one.message for one in told), told


def test_every_rule_has_a_case() -> None:
    assert {rule for rule, _, _ in CASES.values()} == {one.name for one in RULES}


def test_beams_that_are_streamed_are_told_of_even_if_the_engine_has_them(models: Path) -> None:
    engine(models, max_beam_width=4)
    parameter(models, "max_beam_width", "4")
    [told] = found(models)
    assert "may not be the answer" in told.message
    for name in ("tensorrt_llm", "tensorrt_llm_bls"):
        edit(models, name, model_transaction_policy__decoupled="false")
    assert {one.rule for one in found(models)} == {"trtllm_streaming"}


def test_models_of_other_backends_are_left_alone(models: Path) -> None:
    edit(models, "tensorrt_llm", backend="python")
    assert not [one for one in lint(models).findings if one.rule.startswith("trtllm_")]
