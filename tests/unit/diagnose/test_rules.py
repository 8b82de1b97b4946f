"""Each rule fires on words that a server really said, and not on their neighbours.

The lines lie in `failures.json`, each beside the thread that it comes from.
"""

import json
import re
import time
from pathlib import Path

import pytest

from runbook_lib.artifacts import Finding
from runbook_lib.diagnose import rules as module
from runbook_lib.diagnose.evidence import Evidence, Line, from_text
from runbook_lib.diagnose.rules import diagnose, rules
from runbook_lib.parameters import PAGES

RULES = json.loads(module.RULES.read_text(encoding="utf-8"))["rules"]
IDS = [rule["id"] for rule in RULES]
KEYS = {"id", "title", "patterns", "cause", "confirm", "fix", "page", "source"}

FAILURES = json.loads(Path(__file__).with_name("failures.json").read_text(encoding="utf-8"))[
    "lines"
]
FIRES = [(line["rule"], line["text"]) for line in FAILURES]

# Each stands near a rule's words, tells of something else or of nothing, and must not fire it.
NEAR_MISSES = (
    ("engine-gpu-arch-mismatch", "E0301 x] the engine needs the profile of its deployment"),
    ("engine-trt-version-mismatch", "error: the version tag of the image was not found"),
    ("checkpoint-conversion", "error: rank0.engine is loaded after 3.2 s"),
    ("runtime-library-load", "E0301 x] backend 'python' failed after 60 s"),
    ("model-config-invalid", "error: the text format of the answer is not what was expected"),
    ("model-repo-layout", "error: version 1 of the model exited"),
    ("tokenizer-path", "error: the tokenizer of the request is unknown"),
    ("storage-object-missing", "error: the bucket could not be listed in time"),
    ("storage-access", "error: the answer to the request was refused by the client"),
    ("shm-too-small", "error: shared memory region 'input_0' was not registered"),
    ("kv-cache-memory", "error: the KV cache was freed before the sequence ended"),
    ("shape-limit-exceeded", "error: the request exceeded its time limit of 60 s"),
    ("decoupled-mode-mismatch", "error: the stream was closed by the client"),
    ("server-hang", "E0301 x] stub process could not be stopped in time"),
    ("server-not-answering", "error: the model does not answer in the format that was asked for"),
)

# https://github.com/triton-inference-server/{server/issues/1543,server/issues/2312,
# tensorrtllm_backend/issues/235,tensorrtllm_backend/issues/456} and
# https://github.com/NVIDIA/TensorRT-LLM/issues/{1039,1400,2225}: nothing was wrong in these lines.
HEALTHY = """\
I0523 04:01:24.648712 1 metrics.cc:164] found 1 GPUs supporting NVML metrics
I0523 04:01:24.654493 1 server.cc:120] Initializing Triton Inference Server
I0523 04:01:24.909427 1 plan_backend_factory.cc:48] Create PlanBackendFactory
I1204 08:17:45.082233 1 grpc_server.cc:1939] Started GRPCService at 0.0.0.0:8001
I1204 08:17:45.130062 1 server.cc:224] Polling model repository
I1220 01:42:16.589091 100348 model_lifecycle.cc:818] successfully loaded 'tensorrt_llm_bls'
[TensorRT-LLM][WARNING] max_num_sequences is not specified, will be set to the TRT engine max_batch_size
[TensorRT-LLM][WARNING] [json.exception.type_error.302] type must be number, but is null
[TensorRT-LLM][WARNING] max_tokens_in_paged_kv_cache is not specified, will use default value
[TensorRT-LLM][INFO] Loaded engine size: 12858 MiB
[TensorRT-LLM][INFO] Allocate 69524783104 bytes for k/v cache.
[TensorRT-LLM][INFO] Using 132608 tokens in paged KV cache.
HOST:390728:390728 [1] NCCL INFO Channel 22/0 : 1[1] -> 0[0] via P2P/CUMEM/read
HOST:89404:89404 [2] NCCL INFO P2P is disabled between connected GPUs 6 and 7.
"""


def found_in(text, source="log"):
    return [one.id for one in diagnose(from_text(source, text)).findings]


def in_index(text):
    return Evidence(lines=(Line("repository index", text),))


# -- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_rule_says_everything_and_points_to_a_page(rule):
    assert set(rule) == KEYS
    assert all(rule[key] for key in KEYS)
    assert all(pattern == pattern.lower() or "\\" in pattern for pattern in rule["patterns"])
    assert rule["page"] in {page.name for page in PAGES}


def test_every_rule_has_an_id_of_its_own():
    assert len(set(IDS)) == len(IDS)
    assert [rule.id for rule in rules()] == IDS


def test_no_two_rules_share_a_pattern():
    patterns = [pattern for rule in RULES for pattern in rule["patterns"]]
    assert len(set(patterns)) == len(patterns)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_no_pattern_can_take_long(rule):
    """Unbounded repeats of anything are what makes an expression slow on a hostile line."""
    assert not any(re.search(r"\.[*+]", pattern) for pattern in rule["patterns"])


# -- what fires ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cause", "text"), FIRES)
def test_a_rule_names_the_cause_in_a_real_line(cause, text):
    assert found_in(text) == [cause]
    assert [one.id for one in diagnose(in_index(text)).findings] == [cause]


def test_every_rule_has_a_real_line_and_a_near_miss():
    assert {cause for cause, _ in FIRES} == set(IDS)
    assert {cause for cause, _ in NEAR_MISSES} == set(IDS)


@pytest.mark.parametrize(("cause", "text"), NEAR_MISSES)
def test_a_near_miss_names_nothing(cause, text):
    assert found_in(text) == []
    assert diagnose(in_index(text)).findings == ()


def test_healthy_lines_give_no_finding_and_nothing_unexplained():
    found = diagnose(from_text("log", HEALTHY))
    assert found.findings == ()
    assert found.not_explained == ()


def test_no_evidence_gives_no_finding():
    assert diagnose(Evidence()).findings == ()


# -- how findings stand together -------------------------------------------------------------------

ROOT = "failed to load 'tensorrt_llm' version 1: Internal: Version tag does not match."
DEPENDS = (
    "E1115 x] Invalid argument: ensemble 'ensemble' depends on 'tensorrt_llm' "
    "which has no loaded version."
)
ALL = "error: creating server: Internal - failed to load all models"


def test_consequences_are_folded_into_their_cause():
    found = diagnose(from_text("log", f"{DEPENDS}\n{ROOT}\n{ALL}"))
    assert [one.id for one in found.findings] == ["engine-trt-version-mismatch"]
    assert found.findings[0].evidence == (f"log: {ROOT}",)
    assert found.not_explained == ()


def test_consequences_alone_name_nothing():
    found = diagnose(from_text("log", f"{DEPENDS}\n{ALL}"))
    assert (found.findings, found.not_explained) == ((), ())


def test_a_consequence_that_repeats_its_cause_shows_it():
    """https://github.com/NVIDIA/TensorRT-LLM/issues/194: the only line that says it."""
    text = (
        f"{DEPENDS} Model 'tensorrt_llm' loading failed with error: version 2 is at UNAVAILABLE "
        "state: Not found: unable to load shared library: "
        "/opt/tritonserver/backends/tensorrtllm/libtriton_tensorrtllm.so: undefined symbol"
    )
    assert found_in(text) == ["runtime-library-load"]


def test_a_cause_stands_before_the_consequence_that_repeats_it():
    repeated = f"{DEPENDS} Model 'tensorrt_llm' loading failed: {ROOT}"
    found = diagnose(from_text("log", f"{repeated}\n{ROOT}"))
    assert found.findings[0].evidence == (f"log: {ROOT}", f"log: {repeated}")


def test_a_line_goes_to_one_rule_only():
    text = "error: unable to find libtriton.so; no module named tensorrt_llm"
    assert found_in(text) == ["runtime-library-load"]


def test_the_servers_own_index_weighs_more_than_a_line_of_a_log():
    log = Line("log", "ModuleNotFoundError: No module named 'tensorrt_llm'")
    index = Line("repository index", "x is UNAVAILABLE: Stub process 'x' is not healthy.")
    found = diagnose(Evidence(lines=(log, index))).findings
    assert [one.id for one in found] == ["server-hang", "runtime-library-load"]
    assert found[0].score > found[1].score


def test_what_a_collector_named_itself_stands_among_the_findings_by_its_score():
    pod = Finding(
        id="image-not-found", title="t", cause="c", confirm="k", fix="f", evidence=("e",), score=0.9
    )
    line = Line("log", "Version tag does not match. Note: Current Version: 1, Serialized 2")
    weaker = Evidence(lines=(line,)).joined(Evidence(named=(pod,)))
    found = diagnose(weaker).findings
    assert found[0] == pod
    assert {one.id for one in diagnose(Evidence(lines=(line,))).findings} == {
        one.id for one in found[1:]
    }


def test_a_finding_shows_a_few_lines_and_where_they_were_read():
    lines = "\n".join(f"{n} ModuleNotFoundError: No module named 'a{n}'" for n in range(9))
    evidence = diagnose(from_text("pod.log", lines)).findings[0].evidence
    assert len(evidence) == 3
    assert all(one.startswith("pod.log: ") for one in evidence)


def test_a_model_that_is_not_ready_for_an_unknown_reason_is_told():
    found = diagnose(in_index("m is UNAVAILABLE: something odd"))
    assert found.findings == ()
    assert found.not_explained == ("repository index: m is UNAVAILABLE: something odd",)


def test_an_error_line_that_no_rule_knows_is_told_once():
    found = diagnose(from_text("log", "E0301 12:00 odd\nW0301 12:00 failed\nE0301 12:00 odd"))
    assert found.not_explained == ("log: E0301 12:00 odd",)


def test_a_source_that_was_not_read_is_told():
    found = diagnose(Evidence(sources={"metrics": "not read: timed out", "log": "3 lines"}))
    assert found.not_explained == ("metrics not read: timed out",)
    assert found.sources["log"] == "3 lines"


@pytest.mark.parametrize(
    "part",
    [
        "ensemble ",
        "rank0.engine ",
        "tokenizer.json ",
        "no such file ",
        "kv cache ",
        "exceeds ",
        "\x1b]",
    ],
)
def test_a_hostile_line_of_a_megabyte_costs_little(part):
    line = "error: " + part * (1_000_000 // len(part))
    began = time.process_time()
    diagnose(from_text("log", line))
    assert time.process_time() - began < 1
