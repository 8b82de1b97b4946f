"""The tracks that need a GPU, as far as a node without one goes: laid out, stored, taken, and refused by name.

The node only pretends its GPU, and its image is the lab's Triton: what is missing there is the
backend, or TensorRT-LLM's Python package, and that is what must be told.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runbook_lib.engine.job import build_job
from runbook_lib.kube.client import Kube
from runbook_lib.lab.builder_commands import MODEL
from runbook_lib.lab.cluster.home import NAMESPACE, SECRET
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.targets.kserve import KServeTarget
from runbook_lib.targets.kserve_build import Workshop
from runbook_lib.targets.kserve_place import workshop

pytestmark = pytest.mark.timeout(400)

LIMITS = {"max_batch_size": 4, "max_input_len": 64, "max_seq_len": 128, "max_num_tokens": 256}
TRACKS = {
    "engine": ("runtime-library-load", "tensorrtllm"),
    "llmapi": ("runtime-library-load", "No module named 'tensorrt_llm'"),
}


@pytest.fixture(scope="module")
def kube(cluster):
    patch = pytest.MonkeyPatch()
    patch.setenv("RUNBOOK_LAB", cluster.folder.parent.name)
    patch.delenv("KUBECONFIG", raising=False)
    yield Kube.connect(cluster.kubeconfig)
    patch.undo()


def command(*words, code=0):
    argv = [sys.executable, "-c", "from runbook_lib.cli import main; main()", *words, "--json"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def profile(cluster, track, **settings):
    """The guide's model on the node's own GPU, served by the image that is there."""
    given = load_profile("llama-7b").value.model_dump(mode="json")
    small = {"cpu": "100m", "memory": "1Gi", "shared_memory": "64Mi"}
    given["kserve"] |= small | {
        "name": f"track-{track}",
        "namespace": NAMESPACE,
        "image": cluster.images.triton,
        "storage_secret": SECRET,
        "gpus_per_node": 8,
        **settings,
    }
    weights = {"weights": str(MODEL), "trtllm_version": "1.2.1"}
    return given | weights | {"track": track, "gpu": "L4", "max_batch_size": 4}


def engine(folder: Path) -> Path:
    """What trtllm-build leaves, as far as it describes itself; its plan is none."""
    model = {
        "architecture": "LlamaForCausalLM",
        "dtype": "float16",
        "quantization": {"quant_algo": None, "kv_cache_quant_algo": None},
        "mapping": {"world_size": 1, "tp_size": 1, "pp_size": 1},
    }
    config = {"version": "1.2.1", "pretrained_config": model, "build_config": LIMITS}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "rank0.engine").write_bytes(b"no plan" * 1000)
    return folder


@pytest.fixture(params=TRACKS)
def stored(request, cluster, kube, tmp_path):
    """(track, the profile's file): its repository is laid out and lies in the cluster's store."""
    track = request.param
    file, models = tmp_path / f"{track}.yaml", tmp_path / "models"
    uri = f"s3://models/triton/track-{track}/"
    given = profile(cluster, track) | {"model_repository": uri}
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    more = ("--engine", str(engine(tmp_path / "engine"))) if track == "engine" else ()
    command("repo", "init", str(models), "--profile", str(file), *more)
    command("repo", "push", str(models), uri, "--replace")
    yield track, file
    command("undeploy", str(file), "--target", "kserve")


def test_what_is_stored_is_taken_by_the_webhooks_and_what_the_node_lacks_is_named(stored):
    track, file = stored
    told = command("deploy", str(file), "--dry-run")
    assert {one["verb"] for one in told["would"]} == {"create"}
    service = next(one for one in told["manifests"] if one["kind"] == "InferenceService")
    assert service["spec"]["predictor"]["model"]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    refused = command("deploy", str(file), "--approve", told["plan"], code=1)
    cause, words = TRACKS[track]
    assert refused["cause"] == cause, refused
    assert words in refused["why"]


def test_a_repository_for_other_ranks_than_the_profile_s_is_refused_before_anything_is_applied(
    cluster, kube, tmp_path
):
    models, uri = tmp_path / "models", "s3://models/triton/track-ranks/"
    file = tmp_path / "ranks.yaml"
    given = profile(cluster, "engine", name="track-ranks") | {"model_repository": uri}
    file.write_text(yaml.safe_dump(given), encoding="utf-8")
    built = str(engine(tmp_path / "engine"))
    command("repo", "init", str(models), "--profile", str(file), "--engine", built)
    command("repo", "push", str(models), uri, "--replace")
    file.write_text(yaml.safe_dump(given | {"tensor_parallel_size": 2}), encoding="utf-8")
    refused = command("deploy", str(file), "--approve", "auto", code=1)
    assert "built for tp 1, pp 1" in refused["what"]
    assert kube.get("InferenceService", "track-ranks", NAMESPACE) is None


@pytest.mark.parametrize("ranks", [1, 4])
def test_the_job_that_builds_an_engine_is_taken_by_the_server(cluster, kube, ranks):
    given = DeploymentProfile.model_validate(
        profile(cluster, "engine", hub_secret="hub")
        | {"weights": "hf://meta-llama/Llama-2-7b-hf", "tensor_parallel_size": ranks}
    )
    shop = Workshop(kube, *workshop(kube, given))
    config, job = build_job(shop.order(given), shop.place, shop.keys)
    for manifest in (config, job):
        assert kube.apply(manifest, dry_run=True)["metadata"]["name"] == job["metadata"]["name"]
    pod = job["spec"]["template"]["spec"]
    fetch, *steps = pod["initContainers"]
    assert fetch["env"][-1]["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "HF_TOKEN"}
    assert {one["resources"]["limits"]["nvidia.com/gpu"] for one in steps} == {str(ranks)}
    assert any("trtllm-build" in " ".join(one["args"]) for one in steps)
    wanted = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = wanted["nodeSelectorTerms"]
    keys = {one["key"]: one["values"] for one in term["matchExpressions"]}
    assert keys["nvidia.com/gpu.compute.major"] == ["8"]
    assert KServeTarget(kube).build_changes(given, rebuild=True)[-1].verb == "run"
