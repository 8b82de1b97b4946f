"""The guide's own layout and the skeleton, before a real Triton."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.errors import RepositoryError, ServiceError
from runbook_lib.lab import environment
from runbook_lib.repository.lint import lint
from runbook_lib.repository.skeleton import guide_layout, skeleton
from runbook_lib.serving.supervise import Owner, stop
from runbook_lib.serving.triton import generate, post_json, start_triton

NAMES = {"ensemble", "tensorrt_llm_bls", "tokenizer"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    skeleton(folder / "models")
    server, _ = start_triton(
        environment.ensure().triton, str(folder / "models"), folder, owner=Owner.this_process()
    )
    yield server.facts["http"]
    stop(server)


def test_the_skeleton_loads_whole(url: str) -> None:
    index = post_json(f"{url}/v2/repository/index", {})
    assert {(one["name"], one["state"]) for one in index} == {(name, "READY") for name in NAMES}


@pytest.mark.parametrize(
    ("prompt", "limit", "text"),
    [("hello world", 5, "hello"), ("short", 64, "short"), ("世界 🚀 x", 4, "世界 🚀"), ("", 3, "")],
)
@pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls"])
def test_it_answers_with_text_and_its_length_in_tokens(
    url: str, model: str, prompt: str, limit: int, text: str
) -> None:
    answer = generate(url, model, prompt, max_tokens=limit)
    assert (answer["text_output"], answer["output_lengths"]) == (text, len(text))


def test_a_batch_is_answered_row_by_row(url: str) -> None:
    body = {
        "inputs": [
            {"name": "text_input", "datatype": "BYTES", "shape": [2, 1], "data": ["one", "twenty"]},
            {"name": "max_tokens", "datatype": "INT32", "shape": [2, 1], "data": [9, 4]},
        ]
    }
    outputs = post_json(f"{url}/v2/models/ensemble/infer", body)["outputs"]
    assert {one["name"]: one["data"] for one in outputs} == {
        "text_output": ["one", "twen"],
        "output_lengths": [3, 4],
    }


def test_a_wrong_request_is_refused_in_words_and_the_next_one_is_served(url: str) -> None:
    with pytest.raises(ServiceError) as refused:
        generate(url, "ensemble", "x", max_tokens=0)
    assert "max_tokens must be at least 1" in refused.value.why
    with pytest.raises(ServiceError) as refused:
        post_json(f"{url}/v2/models/tokenizer/generate", {"text": "a", "token_ids": [1]})
    assert "either text or token_ids" in refused.value.why
    assert generate(url, "ensemble", "x", max_tokens=1)["text_output"] == "x"


def test_the_tokenizer_alone_encodes_and_decodes(url: str) -> None:
    tokenizer = f"{url}/v2/models/tokenizer/generate"
    assert post_json(tokenizer, {"text": "aé"})["token_ids"] == [97, 233]
    assert post_json(tokenizer, {"token_ids": [97, 233, -1]})["text"] == "aé\ufffd"


def test_the_lint_finds_nothing_in_the_skeleton(tmp_path: Path) -> None:
    skeleton(tmp_path / "models")
    assert lint(tmp_path / "models").findings == ()


def test_triton_loads_no_model_of_the_guides_layout_and_the_lint_says_why(tmp_path: Path) -> None:
    guide_layout(tmp_path / "models")
    server, _ = start_triton(
        environment.ensure().triton,
        str(tmp_path / "models"),
        tmp_path,
        owner=Owner.this_process(),
        strict=False,
    )
    try:
        index = post_json(f"{server.facts['http']}/v2/repository/index", {})
    finally:
        stop(server)
    assert [one["name"] for one in index if one.get("state") == "READY"] == []
    for backends in ("cpu", "trtllm"):
        result = lint(tmp_path / "models", backends=backends)
        explained = {one.model for one in result.findings if one.rule == "config_in_version"}
        assert explained == NAMES
        first = {one.model: one.rule for one in reversed(result.findings)}
        assert set(first.values()) == {"config_in_version"}, "the cause stands before its echoes"
        assert "TYPE_STRING" in str(result)


def test_the_guides_layout_is_the_guides(tmp_path: Path) -> None:
    files = guide_layout(tmp_path / "models")
    names = {path.relative_to(tmp_path / "models").as_posix() for path in files}
    assert names == {
        "tensorrt_llm_bls/1/model.plan",
        "tensorrt_llm_bls/1/config.pbtxt",
        "tokenizer/1/tokenizer.json",
        "tokenizer/1/config.pbtxt",
        "ensemble/1/config.pbtxt",
    }


@pytest.mark.parametrize("write", [skeleton, guide_layout])
def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, write: object) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RepositoryError, match="not an empty folder"):
        write(tmp_path)  # type: ignore[operator]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
