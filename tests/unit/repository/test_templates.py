"""The models of the TensorRT-LLM layout: what each release has, and what is written of it."""

from __future__ import annotations

import re

import pytest

from runbook_lib.engine.releases import VERSIONS, release
from runbook_lib.errors import RepositoryError
from runbook_lib.repository.config import parse_config
from runbook_lib.repository.layout_tree import CODE
from runbook_lib.repository.templates import (
    contract,
    known_parameters,
    parameters_of,
    wiring,
)
from runbook_lib.repository.templates_text import MODELS, TemplateSettings, config_texts

FIVE = {"ensemble", "preprocessing", "tensorrt_llm", "postprocessing", "tensorrt_llm_bls"}
LLMAPI = ("1.0.0", "1.2.1", "1.3.0rc21")


def settings(version: str, **more: object) -> TemplateSettings:
    given = {"max_batch_size": 8, "decoupled": True, "engine_dir": "/mnt/models/tensorrt_llm/1"}
    return TemplateSettings(version, **(given | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_release_gets_five_models_with_nothing_left_to_fill(version: str) -> None:
    texts = config_texts("engine", settings(version))
    assert texts.keys() == FIVE
    assert not any("${" in text for text in texts.values())
    parsed = {model: parse_config(text, where=model) for model, text in texts.items()}
    assert {model: one.name for model, one in parsed.items()} == {model: model for model in FIVE}
    assert {one.max_batch_size for one in parsed.values()} == {8}
    assert parsed["tensorrt_llm"].backend == "tensorrtllm"
    assert parsed["ensemble"].platform == "ensemble"


@pytest.mark.parametrize("track", ["engine", "llmapi"])
def test_every_entry_takes_max_tokens_and_gives_output_lengths(track: str) -> None:
    versions = VERSIONS if track == "engine" else LLMAPI
    entries = {"engine": ("ensemble", "tensorrt_llm_bls"), "llmapi": ("ensemble",)}[track]
    for version in versions:
        for model in entries:
            its = contract(track, version, model)  # type: ignore[arg-type]
            assert {"text_input", "max_tokens"} <= {one.name for one in its.inputs}
            assert {"text_output", "output_lengths"} <= {one.name for one in its.outputs}


@pytest.mark.parametrize("track", ["engine", "llmapi"])
def test_the_wiring_leaves_nothing_needed_open_and_matches_in_type(track: str) -> None:
    versions = VERSIONS if track == "engine" else LLMAPI
    for version in versions:
        carried = {
            one.name: one
            for one in (
                *contract(track, version, "ensemble").inputs,  # type: ignore[arg-type]
                *contract(track, version, "ensemble").outputs,  # type: ignore[arg-type]
            )
        }
        used = set()
        for model, sides in wiring(track, version).items():  # type: ignore[arg-type]
            its = contract(track, version, model)  # type: ignore[arg-type]
            needed = {one.name for one in its.inputs if not one.optional}
            assert needed <= sides["inputs"].keys(), (version, model)
            for one in (*its.inputs, *its.outputs):
                side = sides["inputs" if one in its.inputs else "outputs"]
                outer = side.get(one.name)
                used |= {outer}
                if outer in carried:
                    assert carried[outer].data_type == one.data_type, (version, model, one.name)
        assert carried.keys() <= used, version


def test_what_was_renamed_has_its_name_of_the_release() -> None:
    def names(version: str) -> set[str]:
        return {one.name for one in contract("engine", version, "tensorrt_llm").inputs}

    assert {"random_seed", "min_length"} <= names("0.21.0")
    assert {"seed", "min_tokens"} <= names("1.0.0")
    assert not {"random_seed", "min_length"} & names("1.0.0")
    assert "guided_decoding_guide" in names("0.19.0") - names("0.18.2")


def test_the_parameters_of_a_release_are_the_names_that_its_template_is_filled_with() -> None:
    # The engine stage keeps its own record of the same templates, by placeholder.
    placeholder = {
        "gpt_model_type": "batching_strategy",
        "gpt_model_path": "engine_dir",
        "encoder_model_path": "encoder_engine_dir",
    }
    # Written out in the template, and one that is only in the newest and has no effect.
    fixed = {"FORCE_CPU_ONLY_INPUT_TENSORS", "executor_worker_path", "enable_trt_overlap"}
    for version in VERSIONS:
        ours = set(parameters_of("tensorrt_llm", version)) - fixed
        theirs = release(version).templates["tensorrt_llm"].names
        assert {placeholder.get(name, name) for name in ours} <= theirs, version
        unquoted = {"triton_backend", *release(version).templates["tensorrt_llm"].mandatory}
        assert theirs - {placeholder.get(name, name) for name in ours} <= unquoted, version


def test_every_parameter_that_is_written_is_explained_above_it() -> None:
    for version in VERSIONS:
        for model, text in config_texts("engine", settings(version)).items():
            for found in re.finditer(r'^parameters \{ key: "(\w+)"', text, re.MULTILINE):
                means = known_parameters(model)[found[1]].means
                assert f'# {found[1]}: {means}\nparameters {{ key: "{found[1]}"' in text


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("kv_cache_free_gpu_mem_fraction", "1.5", "at most 1"),
        ("kv_cache_free_gpu_mem_fraction", "0", "above 0"),
        ("kv_cache_free_gpu_mem_fraction", "most", "must be a number"),
        ("max_beam_width", "0", "at least 1"),
        ("enable_chunked_context", "yes", "true or false"),
        ("gpt_model_type", "inflight", "inflight_fused_batching"),
        ("max_attention_window_size", "4096,x", "must be a number"),
        ("guided_decoding_backend", "xgrammar", "is no parameter of it"),
    ],
)
def test_a_value_that_the_backend_would_ignore_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(RepositoryError, match=re.escape(name)) as refused:
        config_texts("engine", settings("0.16.0", parameters={name: value}))
    assert said in refused.value.why


def test_a_parameter_of_ones_own_is_written() -> None:
    given = {"kv_cache_free_gpu_mem_fraction": "0.5", "max_attention_window_size": "4096,1024"}
    text = config_texts("engine", settings("1.2.1", parameters=given))["tensorrt_llm"]
    parsed = parse_config(text, where="tensorrt_llm")
    assert {name: parsed.parameters[name].string_value for name in given} == given


@pytest.mark.parametrize(
    ("track", "version", "said"),
    [
        ("engine", "0.11.0", "0.12.0"),
        ("engine", "1.3.0rc21", "track: llmapi"),
        ("engine", "latest", "is no TensorRT-LLM release"),
        ("llmapi", "0.21.0", "1.0.0"),
    ],
)
def test_a_release_without_such_a_layout_is_refused(track: str, version: str, said: str) -> None:
    with pytest.raises(RepositoryError) as refused:
        config_texts(track, settings(version))  # type: ignore[arg-type]
    assert said in str(refused.value)


def test_the_code_declares_a_model_for_each_that_needs_none_of_the_gpu() -> None:
    python = {one for one in MODELS["engine"] if one not in {"ensemble", "tensorrt_llm"}}
    assert {path.name for path in CODE.iterdir() if path.is_dir()} - {"__pycache__"} == {
        *python,
        "llmapi",
    }
