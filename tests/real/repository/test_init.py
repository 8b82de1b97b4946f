"""Repositories that `repo init` writes, before a real Triton; GPU backends are stood in for."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runbook_lib.cli import runbook
from runbook_lib.lab import environment
from runbook_lib.profile import load_profile
from runbook_lib.repository.init import Sources, begin
from runbook_lib.repository.lint import lint
from runbook_lib.serving.supervise import Owner, stop
from runbook_lib.serving.triton import generate, post_json, start_triton

DATA = Path(__file__).parents[2] / "data"
PROMPT = "the server 世"
"""Of a tokenizer like Llama 2's: two words, each with its space, and three bytes of one character."""


def sentencepiece(folder: Path) -> Path:
    """A tokenizer of Llama 2's kind: spaces as signs of words, unknown characters as bytes."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += [*"▁theservr", "▁t", "▁th", "▁the", "▁s", "▁se", "▁ser", "▁serv", "▁serve", "▁server"]
    merges = [["▁", "t"], ["▁t", "h"], ["▁th", "e"], ["▁", "s"], ["▁s", "e"], ["▁se", "r"]]
    merges += [["▁ser", "v"], ["▁serv", "e"], ["▁serve", "r"]]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    special = [
        {"id": vocab[one], "content": one, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for one in ("<unk>", "<s>", "</s>")
    ]
    begins = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    replace = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    content = {
        "version": "1.0",
        "added_tokens": special,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begins, text],
            "pair": [begins, text],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}, strip],
        },
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": merges,
            "byte_fallback": True,
            "fuse_unk": True,
            "unk_token": "<unk>",
        },
    }
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return folder


def served(models: Path, folder: Path) -> Any:
    server, _ = start_triton(
        environment.ensure().triton, str(models), folder, owner=Owner.this_process()
    )
    return server


def said(url: str, model: str, **body: Any) -> str:
    """The answer to a request, or why it was refused."""
    request = urllib.request.Request(f"{url}/v2/models/{model}/generate", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["text_output"])
    except urllib.error.HTTPError as error:
        return str(json.load(error)["error"])


def stream(url: str, model: str, **body: Any) -> list[dict[str, Any]]:
    """The parts of a streamed answer."""
    request = urllib.request.Request(
        f"{url}/v2/models/{model}/generate_stream", json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data:")]


# -- track engine: the tensorrtllm backend needs a GPU, so its model is stood in for ---------------


@pytest.fixture(scope="module", params=["0.12.0", "0.14.0", "0.19.0", "1.2.1"])
def engine_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("engine")
    tokenizer = sentencepiece(folder / "tokenizer")
    profile = load_profile("tensorrt-llm/llama-7b").value
    begin(folder / "models", profile, Sources(tokenizer=tokenizer), version=request.param)
    assert lint(folder / "models", backends="trtllm").ok
    config = folder / "models/tensorrt_llm/config.pbtxt"
    config.write_text(config.read_text().replace('"tensorrtllm"', '"python"', 1))
    shutil.copy(DATA / "stand_in_engine.py", folder / "models/tensorrt_llm/1/model.py")
    server = served(folder / "models", folder)
    yield server.facts["http"]
    stop(server)


def test_every_release_s_five_models_load(engine_url: str) -> None:
    index = post_json(f"{engine_url}/v2/repository/index", {})
    assert len(index) == 5
    assert {one["state"] for one in index} == {"READY"}


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls"])
def test_max_tokens_go_in_and_output_lengths_come_out(engine_url: str, model: str) -> None:
    answer = generate(engine_url, model, PROMPT, max_tokens=3)
    assert (answer["text_output"], answer["output_lengths"]) == (" the server", 3)
    whole = generate(engine_url, model, PROMPT, max_tokens=20)
    assert (whole["text_output"], whole["output_lengths"]) == (" the server 世", 7)


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls"])
def test_streamed_words_keep_the_spaces_between_them(engine_url: str, model: str) -> None:
    parts = stream(engine_url, model, text_input=PROMPT, max_tokens=3, stream=True)
    assert [one["text_output"] for one in parts] == ["", " the", " server"]
    assert [one["output_lengths"] for one in parts] == [1, 1, 1]


def test_a_streamed_character_of_several_tokens_is_sent_whole_by_the_bls(engine_url: str) -> None:
    parts = stream(engine_url, "tensorrt_llm_bls", text_input=PROMPT, max_tokens=20, stream=True)
    texts = [one["text_output"] for one in parts]
    assert texts == ["", " the", " server", " ", "", "", "世"]
    cut = stream(engine_url, "tensorrt_llm_bls", text_input=PROMPT, max_tokens=5, stream=True)
    assert sum(one["output_lengths"] for one in cut) == 5
    assert cut[-1]["text_output"] == "\ufffd"


@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls"])
def test_a_key_that_no_model_reads_is_refused(engine_url: str, model: str) -> None:
    asked = {"text_input": PROMPT, "max_tokens": 3, "temprature": 1.0}
    assert "unexpected inference input 'temprature'" in said(engine_url, model, **asked)


# -- track llmapi: the package tensorrt_llm is stood in for ----------------------------------------


@pytest.fixture(scope="module")
def llmapi_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("llmapi")
    profile = load_profile("tensorrt-llm/llama-7b").value.model_copy(update={"track": "llmapi"})
    begin(folder / "models", profile, Sources())
    assert lint(folder / "models", backends="trtllm").ok
    shutil.copy(DATA / "stand_in_llm.py", folder / "models/tensorrt_llm/1/tensorrt_llm.py")
    server = served(folder / "models", folder)
    yield server.facts["http"]
    stop(server)


def test_the_llmapi_ensemble_takes_and_gives_the_same_tensors(llmapi_url: str) -> None:
    answer = generate(llmapi_url, "ensemble", "one two three", max_tokens=2)
    told = {name: answer[name] for name in ("text_output", "output_lengths", "num_input_tokens")}
    assert told == {"text_output": "one two", "output_lengths": 2, "num_input_tokens": 3}


def test_the_llmapi_ensemble_streams(llmapi_url: str) -> None:
    parts = stream(llmapi_url, "ensemble", text_input="one two three", max_tokens=9, stream=True)
    assert [one["text_output"] for one in parts] == ["one", " two", " three"]
    assert [one["output_lengths"] for one in parts] == [1, 1, 1]


def test_stop_words_and_sampling_reach_the_llm(llmapi_url: str) -> None:
    asked = {"stop_words": ["two"], "temperature": 0.5, "seed": 7, "top_k": 3}
    text = {"text_input": "one two three", "max_tokens": 9}
    assert said(llmapi_url, "ensemble", **text, **asked) == "one two"


def test_what_the_llm_refuses_comes_back_in_its_words(llmapi_url: str) -> None:
    asked = {"text_input": "one", "max_tokens": 2, "presence_penalty": 0.5}
    assert "no such sampling parameter" in said(llmapi_url, "ensemble", **asked)


def test_an_answer_is_stopped_by_its_request_id(llmapi_url: str) -> None:
    words = 300  # three seconds of the stand-in
    asked = {"id": "one", "text_input": "word " * words, "sampling_param_max_tokens": words}
    with ThreadPoolExecutor(1) as pool:
        parts = pool.submit(stream, llmapi_url, "tensorrt_llm", **asked, streaming=True)
        time.sleep(1)
        stream(llmapi_url, "tensorrt_llm", id="one", text_input="", stop=True)
        assert 0 < len(parts.result()) < words


def test_a_request_to_stop_without_an_id_is_refused(llmapi_url: str) -> None:
    told = said(llmapi_url, "tensorrt_llm", text_input="", stop=True)
    assert "stopped by its request id" in told


# -- track lab: nothing is stood in for ------------------------------------------------------------


def test_a_lab_profile_s_repository_loads_and_answers(tmp_path: Path) -> None:
    command = ["repo", "init", str(tmp_path / "models"), "--profile", "lab/tiny", "--json"]
    run = CliRunner().invoke(runbook, command, standalone_mode=False)
    assert run.return_value in (0, None), run.output
    assert lint(tmp_path / "models").ok
    server = served(tmp_path / "models", tmp_path)
    try:
        answer = generate(server.facts["http"], "ensemble", "What is Triton?", max_tokens=8)
        assert answer["text_output"].strip()
        assert 0 < answer["output_lengths"] <= 8
    finally:
        stop(server)
