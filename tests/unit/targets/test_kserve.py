import json
from types import SimpleNamespace

import pytest

from runbook_lib.artifacts import ModelRepository, Service, StoredFile
from runbook_lib.engine.job import BuildPlace, StoreKeys
from runbook_lib.errors import PlanError, ProfileError, ServiceError, UsageError
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.repository.store import push, read_manifest
from runbook_lib.targets import kserve_place, kserve_stored, target_named
from runbook_lib.targets.kserve import _place_of
from runbook_lib.targets.kserve_build import Workshop
from runbook_lib.targets.kserve_pods import is_ready_pod, loaded_engine

ENGINE = "ab" * 32
PLACE = BuildPlace(
    namespace="prod", image="server:1", storage_image="storage:1", cpu="1", memory="1Gi"
)


def workshop(**changed):
    return Workshop(None, BuildPlace(**(vars(PLACE) | changed)), StoreKeys("keys"))


def profile(name="llama-7b", **changed):
    base = load_profile(name).value.model_dump()
    return DeploymentProfile.model_validate(base | changed)


# -- what a Job is told --------------------------------------------------------------------------


def test_an_engine_lies_under_the_digest_of_everything_it_was_built_from():
    wish = profile("lab/tiny")
    order = workshop().order(wish)
    assert order.result == f"s3://models/engines/{order.inputs[7:23]}/"
    assert order.weights.startswith("s3://models/weights/")
    assert [one.argv[:2] for one in order.commands] == [
        ("python3", "/opt/lab/builder/convert_checkpoint.py"),
        ("python3", "/opt/lab/builder/build_engine.py"),
    ]


@pytest.mark.parametrize("changed", [{"image": "server:2"}, {"node_selector": {"gpu": "h100"}}])
def test_another_image_or_other_nodes_make_another_engine(changed):
    wish = profile("lab/tiny")
    assert workshop(**changed).key(wish) != workshop().key(wish)


def test_weights_that_are_stored_are_read_where_they_are():
    wish = profile(weights="hf://meta-llama/Llama-2-7b-hf", trtllm_version="1.2.1")
    order = workshop().order(wish)
    assert order.weights == "hf://meta-llama/Llama-2-7b-hf"
    assert any("trtllm-build" in word for step in order.commands for word in step.argv)


def test_a_checkpoint_that_changed_in_its_folder_makes_another_engine(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    wish = profile(weights=str(tmp_path), trtllm_version="1.2.1")
    before = workshop().key(wish)
    assert workshop().key(wish) == before
    (tmp_path / "config.json").write_text('{"changed": true}')
    assert workshop().key(wish) != before


def test_weights_that_no_job_can_read_are_refused():
    with pytest.raises(ProfileError, match="No Job can read the weights"):
        workshop().order(profile(weights="/no/such/folder", trtllm_version="1.2.1"))


def test_a_track_without_engines_builds_none():
    with pytest.raises(PlanError, match="builds no engine"):
        workshop().order(profile(track="llmapi"))


@pytest.mark.parametrize(
    ("said", "endpoint"),
    [
        ({}, ""),
        ({"s3-endpoint": "minio:9000"}, "https://minio:9000"),
        ({"s3-endpoint": "minio:9000", "s3-usehttps": "0"}, "http://minio:9000"),
    ],
)
def test_where_the_store_answers_is_read_as_kserve_reads_it(said, endpoint):
    notes = {f"serving.kserve.io/{key}": value for key, value in said.items()}
    kube = SimpleNamespace(get=lambda *_: {"metadata": {"annotations": notes}})
    assert kserve_place.store_keys(kube, "keys", "prod").endpoint == endpoint


def test_without_a_secret_the_service_account_opens_the_store():
    assert kserve_place.store_keys(None, "", "prod") == StoreKeys("")


# -- what pods say -------------------------------------------------------------------------------


def repository():
    file = StoredFile(path="tensorrt_llm/1/rank0.engine", sha256=ENGINE, size=1)
    return ModelRepository(
        path="",
        uri="s3://models/triton/x/",
        entry_model="ensemble",
        models=(),
        files=(file,),
        size_bytes=1,
        content_digest="sha256:1",
        engine_digest="sha256:2",
    )


CONFIG = {
    "version": "1.2.1",
    "pretrained_config": {
        "architecture": "LlamaForCausalLM",
        "dtype": "float16",
        "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1},
    },
    "build_config": {
        "max_batch_size": 4,
        "max_input_len": 64,
        "max_seq_len": 128,
        "max_num_tokens": 256,
    },
}


def test_an_engine_that_somebody_else_stored_is_known_by_its_own_config(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNBOOK_CACHE", str(tmp_path / "cache"))
    models = tmp_path / "models"
    (models / "tensorrt_llm" / "1").mkdir(parents=True)
    (models / "tensorrt_llm" / "1" / "config.json").write_text(json.dumps(CONFIG))
    (models / "tensorrt_llm" / "1" / "rank0.engine").write_bytes(b"engine")
    uri = f"file://{tmp_path / 'store'}/x/"
    push(models, uri, create_bucket=True)
    stored = repository().model_copy(update={"uri": uri, "files": read_manifest(uri)})
    found = kserve_stored.identity_of(stored)
    assert (found.tp_size, found.compiler, found.sm) == (2, "TensorRT-LLM 1.2.1", "")
    assert kserve_stored.identity_of(repository().model_copy(update={"files": ()})) is None
    known = repository().model_copy(update={"identity": found})
    assert kserve_stored.identity_of(known) is found


def test_a_pod_that_loaded_the_stored_engine_is_taken():
    log = f"I1124 engine sha256 {ENGINE} loaded as built in 0.2 s"
    assert loaded_engine("pod-1", log, repository()) == (ENGINE, False)


def test_a_server_that_does_not_say_what_it_loaded_is_not_said_to_have_kept_it():
    assert loaded_engine("pod-1", "started", repository()) == ("sha256:2", None)


@pytest.mark.parametrize(
    "log",
    [
        f"engine sha256 {ENGINE} loaded after compiling",
        f"engine sha256 {'cd' * 32} loaded as built",
    ],
)
def test_a_pod_that_serves_another_engine_or_built_its_own_is_refused(log):
    with pytest.raises(ServiceError, match="does not serve the stored engine"):
        loaded_engine("pod-1", log, repository())


@pytest.mark.parametrize(("state", "ready"), [("True", True), ("False", False), (None, False)])
def test_a_pod_is_ready_when_its_condition_says_so(state, ready):
    conditions = [{"type": "Ready", "status": state}] if state else []
    assert is_ready_pod({"status": {"conditions": conditions}}) is ready


def test_a_service_is_found_again_by_its_url():
    url = "http://tiny-llama-predictor.runbook-lab.svc.cluster.local"
    assert _place_of(Service.model_construct(url=url)) == ("tiny-llama", "runbook-lab")


def test_a_target_that_is_none_is_refused():
    with pytest.raises(UsageError, match="no target 'moon'"):
        target_named("moon")
