"""How findings stand together: best first, consequences under their cause, nothing guessed."""

import pytest

from runbook_lib.artifacts import Finding
from runbook_lib.diagnose.evidence import Evidence, Line
from runbook_lib.diagnose.judge import diagnose
from runbook_lib.diagnose.reading import from_text

# https://github.com/triton-inference-server/{server/issues/1543,server/issues/2312,server/issues/5869,
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
[TensorRT-LLM][INFO] TRTGptModel maxInputLen: 8192 = min(maxSequenceLen - 1, maxNumTokens)
[TensorRT-LLM][INFO] Loaded engine size: 12858 MiB
[TensorRT-LLM][INFO] Allocate 69524783104 bytes for k/v cache.
[TensorRT-LLM][INFO] Using 132608 tokens in paged KV cache.
HOST:390728:390728 [1] NCCL INFO Channel 22/0 : 1[1] -> 0[0] via P2P/CUMEM/read
HOST:89404:89404 [2] NCCL INFO P2P is disabled between connected GPUs 6 and 7.
"""
ON_A_CPU = """\
WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available.
W0523 03:44:28.175401 57 pinned_memory_manager.cc:236] Unable to allocate pinned system memory, \
pinned memory pool will not be available: CUDA driver version is insufficient for CUDA runtime version
I0523 03:44:28.189866 57 model_lifecycle.cc:459] loading: averaging:1
"""
ROOT = "failed to load 'tensorrt_llm' version 1: Internal: Version tag does not match."
DEPENDS = (
    "E1115 x] Invalid argument: ensemble 'ensemble' depends on 'tensorrt_llm' "
    "which has no loaded version."
)
ALL = "error: creating server: Internal - failed to load all models"
SHM = "NCCL WARN Error: failed to extend /dev/shm/nccl-YNr3AB to 9637892 bytes"
NCCL = "NCCL WARN Call to connect returned Connection refused: ncclSystemError"


def named(text, source="log"):
    return [one.id for one in diagnose(from_text(source, text)).findings]


def in_index(text):
    return Evidence(lines=(Line("repository index", text),))


@pytest.mark.parametrize("text", [HEALTHY, ON_A_CPU, ""])
def test_healthy_lines_give_no_finding_and_leave_nothing_open(text):
    found = diagnose(from_text("log", text))
    assert found.findings == ()
    assert found.not_explained == ()


def test_no_evidence_gives_no_finding():
    assert diagnose(Evidence()).findings == ()


def test_what_is_said_at_every_start_blames_nobody_beside_a_true_cause():
    assert named(HEALTHY + ROOT) == ["engine-trt-version-mismatch"]


def test_a_driver_that_is_missing_on_a_cpu_server_is_a_cause_once_something_fails():
    assert named(ON_A_CPU) == []
    failing = "WARNING: The NVIDIA Driver was not detected.\nerror: creating server: no GPU"
    assert "gpu-not-visible" in named(failing)


def test_a_consequence_is_folded_under_its_cause():
    [found] = diagnose(from_text("log", f"{NCCL}\n{SHM}")).findings
    assert found.id == "shm-too-small"
    assert found.consequences[0].startswith("The GPUs don't reach each other: log:1: ")


def test_a_model_that_only_depends_on_a_broken_one_names_nothing():
    found = diagnose(from_text("log", f"{DEPENDS}\n{ALL}"))
    assert (found.findings, found.not_explained) == ((), ())


def test_a_consequence_that_repeats_its_cause_shows_it():
    """https://github.com/NVIDIA/TensorRT-LLM/issues/194: the only line that says it."""
    text = (
        f"{DEPENDS} Model 'tensorrt_llm' loading failed with error: version 2 is at UNAVAILABLE "
        "state: Not found: unable to load shared library: "
        "/opt/tritonserver/backends/tensorrtllm/libtriton_tensorrtllm.so: undefined symbol"
    )
    assert named(text) == ["runtime-library-load"]


def test_more_signals_make_surer_and_the_best_stands_first():
    one = diagnose(from_text("log", "error: CUDA out of memory")).findings[0]
    two = diagnose(
        from_text("log", "error: CUDA out of memory\nTried to allocate 2.00 GiB")
    ).findings[0]
    assert two.score > one.score
    scores = [found.score for found in diagnose(from_text("log", f"{ROOT}\n504\n{NCCL}")).findings]
    assert scores == sorted(scores, reverse=True)


def test_the_servers_own_index_weighs_more_than_a_line_of_a_log():
    log = Line("log", "ModuleNotFoundError: No module named 'something'")
    index = Line("repository index", "x is UNAVAILABLE: Stub process 'x' is not healthy.")
    found = diagnose(Evidence(lines=(log, index))).findings
    assert found[0].id == "server-hang"
    assert found[0].score >= 0.9


def test_what_a_collector_named_itself_is_one_finding_with_what_lines_show_of_it():
    pod = Finding(
        id="image-pull", title="t", cause="c", confirm="k", fix="f", evidence=("e",), score=0.9
    )
    lines = from_text("events", "Failed to pull image x: unauthorized")
    [found] = diagnose(lines.joined(Evidence(named=(pod,)))).findings
    assert found.title == "t"
    assert found.evidence == ("e", "events:1: Failed to pull image x: unauthorized")


def test_a_finding_shows_a_few_lines_and_where_they_were_read():
    lines = "\n".join(f"{n} error: No module named 'tensorrt_llm.a{n}'" for n in range(9))
    evidence = diagnose(from_text("pod.log", lines)).findings[0].evidence
    assert [one.partition(": ")[0] for one in evidence] == ["pod.log:1", "pod.log:2", "pod.log:3"]


def test_a_finding_says_what_to_do_and_what_it_costs():
    found = diagnose(from_text("log", ROOT)).findings[0]
    assert found.confirm.startswith("runbook engine inspect")
    assert found.costs == "one engine build"
    assert "costs: one engine build" in str(found)


def test_a_model_that_is_not_ready_for_an_unknown_reason_is_told():
    found = diagnose(in_index("m is UNAVAILABLE: something odd"))
    assert found.findings == ()
    assert found.not_explained == ("repository index: m is UNAVAILABLE: something odd",)
    assert not found.healthy


def test_an_error_line_that_no_rule_knows_is_told_once():
    found = diagnose(from_text("log", "E0301 12:00 odd\nW0301 12:00 fine\nE0301 12:00 odd"))
    assert found.not_explained == ("log: E0301 12:00 odd",)


def test_a_source_that_was_not_read_is_told_and_is_no_trouble():
    found = diagnose(Evidence(sources={"metrics": "not read: timed out", "log": "3 lines"}))
    assert found.not_explained == ("metrics not read: timed out",)
    assert found.healthy


# -- what no single line shows ---------------------------------------------------------------------


def test_calls_far_apart_in_time_at_like_shapes_are_slow_for_their_shape():
    calls = "\n".join(
        f"logmel:({600 + n},80) cost:{cost}"
        for n, cost in enumerate([100.4, 0.03, 36.4, 0.03, 41.7, 0.04])
    )
    assert named(calls) == ["latency-new-shapes"]
    even = "\n".join(f"logmel:({600 + n},80) cost:0.03{n}" for n in range(6))
    assert named(even) == []


def test_a_table_of_accuracies_is_about_accuracy():
    table = "\n".join(f"Average accuracy 0.{n}97 - subject {n}" for n in range(2, 7))
    assert named(table) == ["quantization-accuracy"]


def test_a_copy_that_went_well_and_brought_nothing_has_no_object():
    text = (
        "INFO:root:Successfully copied s3://models/none to /mnt/models\n"
        "Traceback (most recent call last):\n"
        '  File "/server/model.py", line 32, in load\n'
    )
    assert named(text)[0] == "storage-object-missing"


def test_ranks_that_start_and_say_no_more_hang_and_it_is_said_without_confidence():
    ranks = "".join(f"[TensorRT-LLM][INFO] MPI size: 4, rank: {n}\n" for n in range(4))
    [found] = diagnose(from_text("log", ranks)).findings
    assert (found.id, found.score) == ("server-hang", 0.5)
    assert named(f"{ranks}[TensorRT-LLM][INFO] Loaded engine size: 12858 MiB") == []
