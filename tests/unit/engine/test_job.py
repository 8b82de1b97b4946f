"""The manifests of a build Job: one in full, and what must hold for every one."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from runbook_lib.engine.commands import Command
from runbook_lib.engine.job import WEIGHTS, WORK, BuildOrder, BuildPlace, StoreKeys, build_job
from runbook_lib.errors import ProfileError

GOLDEN = Path(__file__).parent / "build_job.yaml"
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

ORDER = BuildOrder(
    model="llama-7b",
    inputs="sha256:" + "ab" * 32,
    commands=(
        Command(
            "convert_checkpoint",
            ("python3", "/app/convert_checkpoint.py", "--model_dir", WEIGHTS, "--tp_size", "2"),
        ),
        Command("trtllm-build", ("trtllm-build", "--output_dir", f"{WORK}/engine")),
    ),
    weights="s3://models/weights/llama-7b",
    result="s3://models/engines/abababab/",
)
PLACE = BuildPlace(
    namespace="ml-prod",
    image="nvcr.io/nvidia/tritonserver:25.08-trtllm-python-py3",
    storage_image="kserve/storage-initializer:v0.20.0",
    cpu="8",
    memory="64Gi",
    gpu_resource="nvidia.com/gpu",
    gpu_count=2,
    node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    tolerations=({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},),
    service_account="builder",
    image_pull_secrets=("ngc",),
)
KEYS = StoreKeys(secret="s3-keys", endpoint="http://10.88.0.1:8333")


def job_of(order=ORDER, place=PLACE, keys=KEYS, **options):
    return build_job(order, place, keys, **options)[1]


def pod_of(*given, **options):
    return job_of(*given, **options)["spec"]["template"]["spec"]


def containers(pod):
    return [*pod["initContainers"], *pod["containers"]]


def test_the_job_of_a_gpu_engine_is_exactly_this():
    config, job = build_job(ORDER, PLACE, KEYS, retries=1, deadline=3600, ttl=600)
    assert sorted(config["data"]) == ["run_step.py", "store_engine.py"]
    # The name stands for the programs too, which have tests of their own.
    name = job["metadata"]["name"]
    said = json.loads(json.dumps(job).replace(name, "build-llama-7b-KEY"))
    assert said == YAML(typ="safe").load(GOLDEN)


def test_its_containers_run_in_the_order_of_the_build_and_one_alone_stores_it():
    pod = pod_of()
    names = [one["name"] for one in pod["initContainers"]]
    assert names == ["weights", "convert-checkpoint", "trtllm-build"]
    assert [one["name"] for one in pod["containers"]] == ["upload"]


def test_only_the_steps_of_the_build_ask_for_gpus_and_only_the_others_get_keys():
    for one in containers(pod_of()):
        builds = one["name"] not in {"weights", "upload"}
        assert ("nvidia.com/gpu" in one["resources"]["limits"]) == builds
        assert any("valueFrom" in variable for variable in one["env"]) != builds


def test_a_mig_slice_is_asked_for_by_its_own_resource():
    slice_of = replace(PLACE, gpu_resource="nvidia.com/mig-3g.20gb", gpu_count=1)
    step = pod_of(place=slice_of)["initContainers"][1]
    assert step["resources"]["limits"]["nvidia.com/mig-3g.20gb"] == "1"


def test_a_step_may_take_more_cpus_than_it_asks_for():
    step = pod_of(place=replace(PLACE, cpu="200m", cpu_limit="4"))["initContainers"][1]
    limits = step["resources"]["limits"]
    assert (step["resources"]["requests"]["cpu"], limits["cpu"]) == ("200m", "4")


def test_weights_of_a_claim_are_mounted_read_only_and_nothing_is_fetched():
    pod = pod_of(replace(ORDER, weights="pvc://llama/weights/7b"))
    assert [one["name"] for one in pod["initContainers"]] == ["convert-checkpoint", "trtllm-build"]
    mount = next(
        one for one in pod["initContainers"][0]["volumeMounts"] if one["name"] == "weights"
    )
    assert mount == {
        "name": "weights",
        "mountPath": WEIGHTS,
        "readOnly": True,
        "subPath": "weights/7b",
    }
    volume = next(one for one in pod["volumes"] if one["name"] == "weights")
    assert volume["persistentVolumeClaim"] == {"claimName": "llama", "readOnly": True}


def test_a_claim_without_a_path_is_mounted_whole():
    pod = pod_of(replace(ORDER, weights="pvc://llama"))
    mount = pod["initContainers"][0]["volumeMounts"][-2]
    assert mount == {"name": "weights", "mountPath": WEIGHTS, "readOnly": True}


def test_the_hub_is_asked_with_a_token_by_reference():
    pod = pod_of(
        replace(ORDER, weights="hf://meta-llama/Llama-2-7b-hf:main"),
        keys=replace(KEYS, hub_secret="hub"),
    )
    fetch = pod["initContainers"][0]
    assert "hf://meta-llama/Llama-2-7b-hf:main" in fetch["command"]
    assert fetch["env"][-1] == {
        "name": "HF_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "hub", "key": "HF_TOKEN"}},
    }


def test_a_prefix_is_fetched_with_its_slash_so_that_its_neighbours_are_not():
    assert "s3://models/weights/llama-7b/" in pod_of()["initContainers"][0]["command"]


def test_a_work_folder_on_a_claim_is_the_build_s_own():
    claimed = replace(PLACE, work_claim="scratch")
    job = job_of(place=claimed)
    pod = job["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "scratch"}
    assert {one["volumeMounts"][0]["subPath"] for one in containers(pod)} == {
        job["metadata"]["name"]
    }


def test_without_a_secret_the_service_account_has_the_rights():
    pod = pod_of(keys=StoreKeys(secret=""))
    assert not any("valueFrom" in one for each in containers(pod) for one in each["env"])


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"weights": "/data/llama"}, "weights '/data/llama'"),
        ({"weights": "s3://models"}, "weights 's3://models'"),
        ({"weights": "pvc://claim/../other"}, "weights 'pvc://claim/../other'"),
        ({"weights": "hf://llama"}, "weights 'hf://llama'"),
        ({"result": "gs://models/x/"}, "result 'gs://models/x/'"),
        ({"result": "s3://models/a/../b"}, "result 's3://models/a/../b'"),
        ({"commands": ()}, "no build steps"),
        ({"commands": (Command("build", ()),)}, "step build: it has no words"),
        ({"commands": (Command("a_b", ("x",)), Command("a-b", ("y",)))}, "a name of its own"),
        ({"commands": (Command("upload", ("x",)),)}, "not weights or upload"),
        ({"commands": (Command("build", ("x", "a\0b")),)}, "NUL"),
    ],
)
def test_what_means_nothing_is_refused_in_words(wrong, told):
    with pytest.raises(ProfileError) as refused:
        build_job(replace(ORDER, **wrong), PLACE, KEYS)
    assert told in refused.value.why


def test_every_problem_is_told_at_once():
    with pytest.raises(ProfileError) as refused:
        build_job(replace(ORDER, weights="x", result="y", commands=()), PLACE, KEYS)
    assert len(refused.value.why.splitlines()) == 3


# -- what holds for every build --------------------------------------------------------------------

WORDS = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=30)
ORDERS = st.builds(
    BuildOrder,
    model=WORDS,
    inputs=st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True),
    commands=st.lists(
        st.tuples(
            st.from_regex(r"[a-z]{1,9}(_[a-z]{1,9})?", fullmatch=True), st.lists(WORDS, min_size=1)
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda one: one[0],
    ).map(lambda rows: tuple(Command(f"x_{name}", tuple(argv)) for name, argv in rows)),
    weights=st.sampled_from(["s3://b-1/w/", "pvc://claim/w", "hf://org/model"]),
    result=st.just("s3://b-1/engines/x/"),
    replace=st.booleans(),
)
PLACES = st.builds(
    BuildPlace,
    namespace=st.just("ml"),
    image=st.just("image:1"),
    storage_image=st.just("storage:1"),
    cpu=st.just("1"),
    memory=st.just("1Gi"),
    work_claim=st.sampled_from(["", "scratch"]),
    gpu_resource=st.just("nvidia.com/gpu"),
    gpu_count=st.integers(0, 8),
)


def expanded(word):
    """What the kubelet makes of a word that names no variable."""
    assert "$(" not in word.replace("$$", "")
    return word.replace("$$", "$")


@given(ORDERS, PLACES)
def test_every_step_is_given_its_words_unchanged_and_no_shell_takes_part(order, place):
    steps = {one["name"]: one for one in pod_of(order, place)["initContainers"]}
    for command in order.commands:
        words = steps[command.step.replace("_", "-")]["args"]
        cut = words.index("--") + 1
        assert tuple(expanded(word) for word in words[cut:]) == command.argv
        assert words[:2] == ["python3", "/opt/runbook/run_step.py"]


@given(ORDERS, PLACES)
def test_names_are_dns_labels_and_the_same_build_has_the_same_name(order, place):
    config, job = build_job(order, place, KEYS)
    name = job["metadata"]["name"]
    assert config["metadata"]["name"] == name == job_of(order, place)["metadata"]["name"]
    # A pod's name has six characters more.
    assert LABEL.fullmatch(f"{name}-12345")
    named = [one["name"] for one in containers(job["spec"]["template"]["spec"])]
    assert all(map(LABEL.fullmatch, named))
    assert len(set(named)) == len(named)


@given(ORDERS, PLACES, st.sampled_from(["inputs", "image", "commands", "keys", "deadline"]))
def test_another_build_has_another_name(order, place, changed):
    other = {
        "inputs": lambda: job_of(replace(order, inputs=f"{order.inputs}0"), place),
        "image": lambda: job_of(order, replace(place, image="image:2")),
        "commands": lambda: job_of(
            replace(order, commands=(*order.commands, Command("more", ("true",)))), place
        ),
        "keys": lambda: job_of(order, place, replace(KEYS, secret="others")),
        "deadline": lambda: job_of(order, place, deadline=60),
    }[changed]()
    assert other["metadata"]["name"] != job_of(order, place)["metadata"]["name"]


@given(ORDERS, PLACES)
def test_nobody_is_root_and_keys_are_only_named(order, place):
    manifests = build_job(order, place, KEYS)
    pod = manifests[1]["spec"]["template"]["spec"]
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (
        1000,
        True,
    )
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in containers(pod):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert one["resources"]["requests"].keys() == one["resources"]["limits"].keys()
        for variable in one["env"]:
            secret = any(word in variable["name"] for word in ("KEY", "TOKEN", "SECRET"))
            assert secret == ("valueFrom" in variable)
    assert {one["kind"] for one in manifests} == {"ConfigMap", "Job"}
