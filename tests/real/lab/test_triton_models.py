"""The lab's Triton models behind a real Triton, with a model whose text splits characters."""

from __future__ import annotations

import json
import math
import queue
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton

import runbook_lib.lab
from runbook_lib.lab import environment
from runbook_lib.repository.layout import LayoutSettings, write_repository
from runbook_lib.serving.supervise import stop
from runbook_lib.serving.triton import start_triton

RANDOM_MODEL = Path(__file__).parents[2] / "data" / "random_model.py"
LAB = Path(runbook_lib.lab.__file__).parent
BATCH, INPUT, TOTAL = 4, 64, 192
BOTH = pytest.mark.parametrize("model", ["ensemble", "tensorrt_llm_bls"])
PROMPT = "the server streams 世界"
HOT = {"temperature": 2.0, "top_p": 1.0, "end_id": -1}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An engine of a random model, and its Hugging Face folder."""
    work = tmp_path_factory.mktemp("engine")
    subprocess.run([sys.executable, str(RANDOM_MODEL), str(work / "hf")], check=True)
    python = str(environment.ensure().python)
    convert = [str(LAB / "builder" / "convert_checkpoint.py"), "--dtype", "float32"]
    convert += ["--model_dir", str(work / "hf"), "--output_dir", str(work / "checkpoint")]
    build = [str(LAB / "builder" / "build_engine.py"), "--max_batch_size", str(BATCH)]
    build += ["--max_input_len", str(INPUT), "--max_seq_len", str(TOTAL), "--max_num_tokens", "256"]
    build += ["--checkpoint_dir", str(work / "checkpoint"), "--output_dir", str(work / "engine")]
    for command in (convert, build):
        subprocess.run([python, *command], check=True)
    return work / "engine", work / "hf"


class Server:
    def __init__(self, facts: dict[str, str]) -> None:
        self.facts = facts

    def post(self, model: str, path: str = "generate", **body: Any) -> str:
        """The answer's body; an error answer's too."""
        url = f"{self.facts['http']}/v2/models/{model}/{path}"
        request = urllib.request.Request(url, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()

    def whole(self, model: str, **body: Any) -> dict[str, Any]:
        answer = json.loads(self.post(model, **({"text_input": PROMPT, "max_tokens": 24} | body)))
        assert "error" not in answer, answer
        return answer

    def stream(self, model: str, **body: Any) -> list[dict[str, Any]]:
        body = {"text_input": PROMPT, "max_tokens": 24, "stream": True} | body
        text = self.post(model, "generate_stream", **body)
        answers = [json.loads(line[5:]) for line in text.splitlines() if line.startswith("data:")]
        assert not any("error" in answer for answer in answers), answers
        return answers

    def gauge(self, text: str) -> float:
        page = urllib.request.urlopen(self.facts["metrics"], timeout=10).read().decode()
        return next(
            float(line.split()[-1]) for line in page.splitlines() if text in line and line[0] != "#"
        )


def _serve(engine: tuple[Path, Path], folder: Path, *, decoupled: bool) -> Any:
    settings = LayoutSettings(
        models_dir=LAB / "triton_models",
        max_batch_size=BATCH,
        decoupled=decoupled,
        runtime_files=(LAB / "builder" / "engine_runtime.py",),
    )
    repository = folder / "models"
    write_repository(repository, engine_dir=engine[0], tokenizer_dir=engine[1], settings=settings)
    running, _ = start_triton(environment.ensure().triton, str(repository), folder, owner=None)
    return running


@pytest.fixture(scope="module")
def server(engine: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = _serve(engine, tmp_path_factory.mktemp("decoupled"), decoupled=True)
    yield Server(running.facts)
    stop(running)


@pytest.fixture(scope="module")
def plain_server(engine: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    running = _serve(engine, tmp_path_factory.mktemp("plain"), decoupled=False)
    yield Server(running.facts)
    stop(running)


@BOTH
def test_a_streamed_text_is_the_whole_text_whatever_characters_the_tokens_split(
    server: Server, model: str
) -> None:
    split = 0
    for seed in range(12):
        whole = server.whole(model, seed=seed, **HOT)
        parts = server.stream(model, seed=seed, **HOT)
        assert "".join(part["text_output"] for part in parts) == whole["text_output"]
        assert sum(part["output_lengths"] for part in parts) == whole["output_lengths"] == 24
        split += sum(part["output_lengths"] > 1 for part in parts)
    assert split, "no token of any text ended inside a character, so nothing was tried"


@BOTH
def test_greedy_text_streams_token_by_token(server: Server, model: str) -> None:
    parts = server.stream(model, end_id=-1)
    assert len(parts) > 6
    assert (
        "".join(part["text_output"] for part in parts)
        == server.whole(model, end_id=-1)["text_output"]
    )


def test_the_bls_answers_what_the_ensemble_answers(server: Server) -> None:
    asked = {"seed": 5, "return_log_probs": True, "return_num_input_tokens": True, **HOT}
    ensemble, bls = server.whole("ensemble", **asked), server.whole("tensorrt_llm_bls", **asked)
    same = (
        "text_output",
        "output_lengths",
        "output_log_probs",
        "cum_log_probs",
        "num_input_tokens",
    )
    assert [ensemble[name] for name in same] == [bls[name] for name in same]


def test_a_seed_gives_the_same_text_also_beside_other_requests(server: Server) -> None:
    alone = [server.whole("ensemble", seed=seed, **HOT)["text_output"] for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(
                lambda seed: server.whole("ensemble", seed=seed, **HOT)["text_output"], range(8)
            )
        )
    assert together == alone
    assert len(set(alone)) == len(alone)


@pytest.mark.parametrize(
    "sampling",
    [{"top_k": 1, "temperature": 3.0}, {"temperature": 0.0, "top_p": 0.9}, {"temperature": 3.0}],
)
def test_top_k_one_temperature_zero_and_no_top_values_are_greedy(
    server: Server, sampling: dict[str, Any]
) -> None:
    greedy = server.whole("ensemble")["text_output"]
    assert [server.whole("ensemble", seed=seed, **sampling)["text_output"] for seed in (1, 2)] == [
        greedy
    ] * 2


@BOTH
def test_generation_stops_with_a_stop_word_that_spans_tokens(server: Server, model: str) -> None:
    full = server.whole(model, end_id=-1)
    clean = max(full["text_output"].split("\ufffd"), key=len)
    word = clean[1:4]
    assert len(word) == 3
    stopped = server.whole(model, end_id=-1, stop_words=["", word])
    end = full["text_output"].index(word) + len(word)
    assert full["text_output"].startswith(stopped["text_output"])
    assert word in stopped["text_output"]
    assert end <= len(stopped["text_output"]) < len(full["text_output"])
    assert stopped["output_lengths"] < full["output_lengths"]
    streamed = server.stream(model, end_id=-1, stop_words=[word])
    assert "".join(part["text_output"] for part in streamed) == stopped["text_output"]


@BOTH
def test_bad_words_never_appear(server: Server, model: str) -> None:
    bad, hot = ["e", "th", "\n", "世", "🚀🚀"], {"temperature": 1.5, "top_p": 1.0}
    asked = [{"seed": seed, "max_tokens": 60, **hot} for seed in range(12)]
    free = [server.whole(model, **one)["text_output"] for one in asked]
    assert any(word in text for text in free for word in bad), (
        "the words would not have appeared anyway"
    )
    kept = [server.whole(model, bad_words=["", *bad], **one)["text_output"] for one in asked]
    assert not [text for text in kept if any(word in text for word in bad)]
    assert any(kept)


def test_an_empty_string_is_no_word(server: Server) -> None:
    assert server.whole("ensemble", stop_words=[""], bad_words=[""]) == server.whole("ensemble")


def test_the_end_id_ends_the_output_and_is_not_in_it(server: Server) -> None:
    ids = _generated(server, request_output_len=1, end_id=-1)["output_ids"]
    answer = _generated(server, request_output_len=9, end_id=ids)
    assert answer["sequence_length"] == 0
    assert _generated(server, request_output_len=9, end_id=-1)["sequence_length"] == 9


def _generated(server: Server, **body: Any) -> dict[str, Any]:
    asked = {"input_ids": [50, 60, 70], "input_lengths": 3, **body}
    answer = json.loads(server.post("tensorrt_llm", **asked))
    assert "error" not in answer, answer
    return answer


def test_log_probabilities_are_those_of_the_models_distribution(server: Server) -> None:
    seen = {}
    for seed in range(500):
        asked = {
            "runtime_top_p": 1.0,
            "temperature": 1.0,
            "seed": seed,
            "return_log_probs": True,
            "end_id": -1,
        }
        answer = _generated(server, request_output_len=1, **asked)
        assert (
            seen.setdefault(answer["output_ids"], answer["output_log_probs"])
            == answer["output_log_probs"]
        )
    # Different tokens' probabilities add up to at most 1, and 500 draws meet most of the mass.
    assert 0.7 < sum(math.exp(value) for value in seen.values()) <= 1.0001


@BOTH
def test_log_probabilities_of_a_stream_add_up(server: Server, model: str) -> None:
    parts = server.stream(model, return_log_probs=True, return_num_output_tokens=True)
    values = [value for part in parts for value in np.ravel(part["output_log_probs"])]
    assert (
        len(values)
        == sum(part["output_lengths"] for part in parts)
        == parts[-1]["num_output_tokens"]
    )
    assert parts[-1]["cum_log_probs"] == pytest.approx(sum(values), abs=1e-3)
    assert "cum_log_probs" not in server.whole(model)


@BOTH
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"text_input": "the server " * 60}, f"exceeds maximum input length ({INPUT})."),
        ({"max_tokens": 0}, "Assertion failed: mMaxNewTokens > 0"),
        ({"max_tokens": TOTAL}, f"exceeds maximum sequence length ({TOTAL})."),
        ({"text_input": ""}, "Assertion failed: !mInputTokenIds.empty()"),
        ({"beam_width": 2}, "Requested beam width 2 is larger than configured max beam width 1"),
        ({"beam_width": 0}, "Requested beam width 0 is incorrect."),
        ({"top_p": 1.5}, "Incorrect sampling config: topP (1.5)"),
        ({"temperature": -1.0}, "Incorrect sampling config: temperature (-1)"),
        ({"end_id": 4000}, "EndId (4000) is not within acceptable range [-1,"),
        ({"bad_words": ["</s>"]}, "A special token can't be one of bad_words."),
        ({"bad_words": ["e"], "end_id": -1}, "bad_words can't be kept out without an end_id."),
        ({"temprature": 0.5}, "unexpected inference input 'temprature'"),
    ],
)
def test_a_wrong_request_is_refused_in_the_backends_words(
    server: Server, model: str, wrong: dict[str, Any], words: str
) -> None:
    answer = server.post(model, **({"text_input": PROMPT, "max_tokens": 8} | wrong))
    assert words in json.loads(answer)["error"]
    assert server.whole(model)["output_lengths"]


def test_more_requests_than_the_batch_wait_and_are_served(server: Server) -> None:
    with ThreadPoolExecutor(5 * BATCH) as pool:
        asked = [{"seed": seed, "max_tokens": 40, **HOT} for seed in range(5 * BATCH)]
        answers = list(pool.map(lambda one: server.whole("ensemble", **one), asked))
    assert [answer["output_lengths"] for answer in answers] == [40] * len(answers)
    _until_idle(server)


def _until_idle(server: Server) -> None:
    deadline = time.monotonic() + 60
    while server.gauge('request_type="active"'):
        assert time.monotonic() < deadline, "the engine did not fall idle"
        time.sleep(0.05)


def _inputs(**values: tuple[Any, str]) -> list[triton.InferInput]:
    types = {"BYTES": object, "INT32": np.int32, "BOOL": bool}
    made = []
    for name, (rows, kind) in values.items():
        tensor = np.array([[row] for row in rows], types[kind])
        made.append(triton.InferInput(name, tensor.shape, kind))
        made[-1].set_data_from_numpy(tensor)
    return made


def test_two_rows_of_a_grpc_stream_come_with_their_index(server: Server) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(server.facts["grpc"]) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        rows = _inputs(
            text_input=([b"the", "世界 the server".encode()], "BYTES"), max_tokens=([3, 5], "INT32")
        )
        client.async_stream_infer("ensemble", rows)
        got = {}
        for _ in range(2):
            result, error = answers.get(timeout=30)
            assert error is None
            got[result.as_numpy("batch_index").item()] = result.as_numpy("output_lengths").item()
        client.stop_stream()
    assert got == {0: 3, 1: 5}


@pytest.mark.parametrize("model", ["tensorrt_llm_bls"])
def test_a_client_that_leaves_frees_its_place(server: Server, model: str) -> None:
    """The ensemble is not here: Triton's ensemble tells a running step nothing of a cancellation."""
    requests, tokens = 6 * BATCH, TOTAL - 40
    _until_idle(server)
    before = server.gauge("iteration_counter")
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(server.facts["grpc"]) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        asked = {
            "max_tokens": ([tokens], "INT32"),
            "stream": ([True], "BOOL"),
            "end_id": ([-1], "INT32"),
        }
        for _ in range(requests):
            client.async_stream_infer(
                model, _inputs(text_input=([b"the server"], "BYTES"), **asked)
            )
        answers.get(timeout=30)
        client.stop_stream(cancel_requests=True)
    _until_idle(server)
    assert server.gauge("iteration_counter") - before < requests / BATCH * tokens / 2


def test_the_metrics_page_shows_inferences_and_the_engines_load(server: Server) -> None:
    server.whole("ensemble")
    assert server.gauge('nv_inference_request_success{model="ensemble"') > 0
    assert server.gauge('kv_cache_block_type="max"') == BATCH * TOTAL / 32
    assert server.gauge('request_type="max"') == BATCH
    _until_idle(server)
    assert server.gauge('kv_cache_block_type="used"') == 0


@BOTH
def test_a_decoupled_model_is_not_served_by_infer(server: Server, model: str) -> None:
    assert "decoupled" in server.post(model, "infer", **_infer("the"))


def _infer(*texts: str, **more: int) -> dict[str, Any]:
    shape = [len(texts), 1]
    inputs: list[dict[str, Any]] = [
        {"name": "text_input", "datatype": "BYTES", "shape": shape, "data": list(texts)},
        {"name": "max_tokens", "datatype": "INT32", "shape": shape, "data": [4] * len(texts)},
    ]
    for name, value in more.items():
        inputs.append({"name": name, "datatype": "INT32", "shape": shape, "data": [value]})
    return {"inputs": inputs}


@BOTH
def test_without_decoupling_infer_answers_and_streaming_is_refused(
    plain_server: Server, model: str
) -> None:
    answer = json.loads(plain_server.post(model, "infer", **_infer("the server")))
    assert {one["name"]: one["data"] for one in answer["outputs"]}["output_lengths"] == [4]
    asked = {"text_input": "the", "max_tokens": 4, "stream": True}
    assert (
        "Streaming is only supported if model is deployed using decoupled mode."
        in plain_server.post(model, **asked)
    )
    assert "Batch size > 1 requires" in plain_server.post(model, "infer", **_infer("a", "b"))
    unknown = plain_server.post(model, "infer", **_infer("the", nonsense=1))
    assert f"unexpected inference input 'nonsense' for model '{model}'" in unknown


@BOTH
def test_without_decoupling_requests_still_share_the_engine(
    plain_server: Server, model: str
) -> None:
    # A step serves the whole batch: together they need fewer steps than one after the other.
    before = plain_server.gauge("iteration_counter")
    with ThreadPoolExecutor(BATCH) as pool:
        list(pool.map(lambda _: plain_server.whole(model, max_tokens=100, end_id=-1), range(BATCH)))
    _until_idle(plain_server)
    assert plain_server.gauge("iteration_counter") - before < BATCH * 100
