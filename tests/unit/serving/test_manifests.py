"""What is rendered: golden YAML for some deployments, and what holds for every one of them."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.artifacts import EngineIdentity, Limits
from runbook_lib.errors import PlanError, PreflightError
from runbook_lib.hardware import gpu, gpu_names
from runbook_lib.kube.kinds import KINDS
from runbook_lib.kube.text import to_yaml
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.profile_kserve import KServeSettings
from runbook_lib.serving.kserve_words import KServe
from runbook_lib.serving.manifests import explain_cache, render
from runbook_lib.serving.manifests_image import serving_image
from runbook_lib.serving.manifests_target import deployment, kserve_uri, service_name

GOLDEN = Path(__file__).parent / "manifests"
NEW = KServe((0, 20), "a test")
OLD = KServe((0, 15), "a test")
DIGEST = "sha256:" + "ab" * 32
LIMITS = Limits(max_batch_size=8, max_input_len=1024, max_seq_len=2048, max_num_tokens=2048)


def profile(**changes):
    base = {"model_name": "llama-2-7b"}
    return DeploymentProfile.model_validate(base | changes)


def identity(target, tp=1):
    return EngineIdentity(
        track="engine",
        target=target,
        compiler="TensorRT-LLM 1.2.1",
        dtype="float16",
        kv_cache_dtype="float16",
        tp_size=tp,
        limits=LIMITS,
    )


def rendered(given_profile, kserve=NEW, **more):
    target = deployment(given_profile, given_profile.kserve, kserve, namespace="ml-prod", **more)
    return render(target)


def one(manifests, kind):
    found = [manifest for manifest in manifests if manifest["kind"] == kind]
    assert len(found) == 1, f"{len(found)} objects of kind {kind}"
    return found[0]


def predictor(manifests):
    return one(manifests, "InferenceService")["spec"]["predictor"]


def conditions(manifests):
    required = predictor(manifests)["affinity"]["nodeAffinity"]
    (term,) = required["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return {(row["key"], row["operator"]): row["values"] for row in term["matchExpressions"]}


CASES = {
    "guide": lambda: rendered(load_profile("llama-7b", env={}).value),
    "tensor-parallel": lambda: rendered(
        profile(
            gpu="H100-SXM-80GB",
            tensor_parallel_size=2,
            kserve={
                "namespace": "ml-other",
                "storage_secret": "store-keys",
                "image": "registry.example.com/triton:trtllm",
                "image_pull_secrets": ["registry"],
                "min_replicas": 2,
                "max_replicas": 6,
                "autoscaling": {"by": "keda", "prometheus": "http://prometheus.monitoring:9090"},
            },
        ),
        identity=identity("sm90", tp=2),
        content_digest=DIGEST,
        pod_monitors=True,
    ),
    "mig-mixed": lambda: rendered(profile(gpu="A100-SXM-40GB:1g.5gb")),
    "mig-single-cached": lambda: rendered(
        profile(
            gpu="A100-SXM-40GB:1g.5gb",
            kserve={
                "mig_strategy": "single",
                "local_cache_group": "a100",
                "aws_role_arn": "arn:aws:iam::123456789012:role/models",
                "min_replicas": 2,
                "max_replicas": 4,
                "autoscaling": {"by": "hpa"},
            },
        ),
        repository_bytes=5 * 2**30 + 1,
    ),
    "lab-on-old-kserve": lambda: rendered(
        load_profile("lab/tiny", env={}, overrides={}).value.model_copy(
            update={"kserve": KServeSettings(image="runbook.local/triton:0")}
        ),
        OLD,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_deployment_renders_as_it_is_kept(name):
    assert to_yaml(CASES[name]()) == (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_the_yaml_reads_back_as_what_is_applied(name):
    manifests = CASES[name]()
    assert list(yaml.safe_load_all(to_yaml(manifests))) == manifests


# -- what the engine asks of its node --------------------------------------------------------------


def test_pods_run_only_where_the_engines_sm_is():
    found = conditions(rendered(profile(), identity=identity("sm120")))
    assert found == {
        ("nvidia.com/gpu.compute.major", "In"): ["12"],
        ("nvidia.com/gpu.compute.minor", "In"): ["0"],
    }


def test_where_nobody_wrote_the_engines_sm_down_the_profiles_gpu_tells_it():
    found = conditions(rendered(profile(gpu="L40S"), identity=identity("unknown")))
    assert found["nvidia.com/gpu.compute.major", "In"] == ["8"]
    with pytest.raises(PlanError, match="built for tp 2"):
        rendered(profile(gpu="L40S"), identity=identity("unknown", tp=2))


def test_before_the_engine_is_built_the_profiles_gpu_tells_the_sm():
    found = conditions(rendered(profile(gpu="L40S")))
    assert found["nvidia.com/gpu.compute.major", "In"] == ["8"]
    assert found["nvidia.com/gpu.compute.minor", "In"] == ["9"]


def test_a_whole_gpu_is_told_from_a_slice_that_is_offered_under_its_name():
    (least,) = conditions(rendered(profile(gpu="A100-SXM-40GB")))["nvidia.com/gpu.memory", "Gt"]
    assert 19968 < int(least) < 40960  # what nodes say of the largest slice, and of the whole


def test_a_slice_of_the_single_strategy_is_found_by_its_memory():
    given_profile = profile(gpu="A100-SXM-40GB:1g.5gb", kserve={"mig_strategy": "single"})
    manifests = rendered(given_profile)
    (least,) = conditions(manifests)["nvidia.com/gpu.memory", "Gt"]
    (most,) = conditions(manifests)["nvidia.com/gpu.memory", "Lt"]
    assert int(least) < 4864 < int(most) < 9984
    assert predictor(manifests)["model"]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_lab_asks_for_no_gpu_and_no_label():
    pods = predictor(CASES["lab-on-old-kserve"]())
    assert not {"affinity", "tolerations", "nodeSelector"} & pods.keys()
    assert set(pods["model"]["resources"]["limits"]) == {"memory"}


# -- words of versions -----------------------------------------------------------------------------


def test_the_version_decides_the_words():
    def words(kserve):
        service = one(rendered(profile(), kserve), "InferenceService")
        return {
            key.rpartition("/")[2]: text for key, text in service["metadata"]["annotations"].items()
        }

    assert words(NEW) == {"deploymentMode": "Standard", "autoscalerClass": "none"}
    assert words(OLD) == {"deploymentMode": "RawDeployment", "autoscalerClass": "hpa"}


def test_a_living_object_keeps_its_deployment_mode():
    service = one(rendered(profile(), living_mode="RawDeployment"), "InferenceService")
    mode = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
    assert mode == "RawDeployment"


def test_a_setting_that_the_version_does_not_know_is_refused():
    given_profile = profile(kserve={"local_cache_group": "a100"})
    with pytest.raises(PreflightError, match=r"needs KServe 0\.15; the cluster has 0\.14"):
        rendered(given_profile, KServe((0, 14), "a test"))


def test_scaling_by_keda_is_refused_where_there_is_none():
    wanted = profile(
        kserve={"max_replicas": 2, "autoscaling": {"by": "keda", "prometheus": "http://p:9090"}}
    )
    with pytest.raises(PreflightError, match="the cluster has no KEDA"):
        rendered(wanted, scaled_objects=False)
    assert "autoScaling" in predictor(rendered(wanted, scaled_objects=True))


# -- ranks -----------------------------------------------------------------------------------------


def test_ranks_are_started_under_mpi_and_only_the_first_loads_everything():
    runtime = one(CASES["tensor-parallel"](), "ServingRuntime")
    argv = runtime["spec"]["containers"][0]["args"]
    first, second = " ".join(argv).split(" : ")
    assert first.startswith("mpirun -n 1 tritonserver ")
    assert second.startswith("-n 1 tritonserver ")
    assert "--load-model" not in first
    assert "--model-control-mode=explicit --load-model=tensorrt_llm" in second


def test_the_llmapi_backend_starts_its_ranks_itself():
    manifests = rendered(profile(track="llmapi", tensor_parallel_size=4))
    container = one(manifests, "ServingRuntime")["spec"]["containers"][0]
    assert container["args"][0] == "tritonserver"
    assert predictor(manifests)["model"]["resources"]["limits"]["nvidia.com/gpu"] == "4"


REFUSED = {
    "several nodes": ({"tensor_parallel_size": 16}, "takes 16 GPUs, and the largest node has 8"),
    "ranks on slices": (
        {"gpu": "A100-SXM-40GB:1g.5gb", "tensor_parallel_size": 2},
        "can't run on MIG slices",
    ),
    "a folder": ({"model_repository": "/models"}, "Pods of a cluster can't read /models"),
    "Triton's Azure": ({"model_repository": "as://account/models"}, "KServe does not read as://"),
    "a name too long": ({"kserve": {"name": "n" * 41}}, "has 41 letters; 40 fit"),
    "an unknown release": ({"trtllm_version": "1.3.0"}, "No Triton image is known"),
    "a cache of unknown size": ({"kserve": {"local_cache_group": "a100"}}, "size of the model"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cant_work_is_refused_before_anything_is_asked(name):
    changes, said = REFUSED[name]
    with pytest.raises(PlanError, match=said) as refusal:
        rendered(profile(**changes))
    assert refusal.value.fix


def test_an_engine_of_another_shape_or_gpu_is_refused():
    with pytest.raises(PlanError, match="built for tp 2"):
        rendered(profile(), identity=identity("sm90", tp=2))
    context = identity("sm90").model_copy(update={"cp_size": 2})
    with pytest.raises(PlanError, match="built for tp 1, pp 1, cp 2; the profile asks for tp 1"):
        rendered(profile(), identity=context)
    assert str(context).endswith(", tp 1, pp 1, cp 2")
    with pytest.raises(PlanError, match="built for sm80; the profile's GPU H100"):
        rendered(profile(gpu="H100-SXM-80GB"), identity=identity("sm80"))


def test_the_labs_image_must_be_named():
    with pytest.raises(PlanError, match="lab's image is not named"):
        rendered(load_profile("lab/tiny", env={}).value)


# -- what holds for every deployment ---------------------------------------------------------------

WORD = st.from_regex(r"[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
DEVICES = [None, *gpu_names(), *(f"{name}:{p.name}" for name in gpu_names() for p in gpu(name).mig)]


@st.composite
def deployments(draw):
    device = draw(st.sampled_from(DEVICES))
    ranks = 1 if ":" in (device or "") else draw(st.sampled_from([1, 2, 4, 8]))
    least = draw(st.integers(1, 4))
    by = draw(st.sampled_from(["none", "keda", "hpa"]))
    given_settings = {
        "min_replicas": least,
        "max_replicas": least if by == "none" else least + draw(st.integers(0, 4)),
        "autoscaling": {"by": by} | ({"prometheus": "http://p:9090"} if by == "keda" else {}),
        "mig_strategy": draw(st.sampled_from(["mixed", "single"])),
        "storage_secret": draw(st.just("") | WORD),
        "service_account": draw(st.just("") | WORD),
    }
    given_profile = profile(
        model_name=draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,60}", fullmatch=True)),
        model_repository=draw(st.sampled_from(["s3", "gs", "pvc"])) + "://models/" + draw(WORD),
        track=draw(st.sampled_from(["engine", "llmapi"])),
        gpu=device,
        tensor_parallel_size=ranks,
        kserve=given_settings,
    )
    kserve = KServe((0, draw(st.integers(15, 21))), "a test")
    return given_profile, rendered(given_profile, kserve, pod_monitors=draw(st.booleans()))


@settings(deadline=None)
@given(deployments())
def test_every_deployment_keeps_the_rules(drawn):
    given_profile, manifests = drawn
    pods = predictor(manifests)
    runtime = one(manifests, "ServingRuntime")
    container = runtime["spec"]["containers"][0]

    assert pods["model"]["storageUri"].endswith("/")
    assert pods["model"]["protocolVersion"] == "v2"
    assert pods["model"]["runtime"] == runtime["metadata"]["name"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    assert container["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    # One GPU a copy is enough to update: nothing waits for a second one that isn't there.
    assert pods["deploymentStrategy"].get("rollingUpdate", {"maxSurge": 0})["maxSurge"] == 0
    limits = pods["model"]["resources"]["limits"]
    assert limits.keys() == pods["model"]["resources"]["requests"].keys() - {"cpu"}
    gpus = {name: count for name, count in limits.items() if name.startswith("nvidia.com/")}
    assert list(gpus.values()) == [str(given_profile.world_size)]
    for manifest in manifests:
        row = KINDS[manifest["kind"]]
        assert manifest["apiVersion"] == row.api_version
        assert manifest["kind"] != "Secret"
        name = manifest["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= 40
        assert manifest["metadata"]["namespace"] == "ml-prod"


@settings(deadline=None)
@given(st.text(max_size=80))
def test_every_model_name_becomes_a_name_that_kubernetes_takes(text):
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service_name(text))
    assert len(service_name(text)) <= 40


def test_the_endpoint_in_tritons_uri_is_no_part_of_kserves():
    assert kserve_uri("s3://http://10.0.0.1:8333/models/a") == "s3://models/a/"
    assert kserve_uri("s3://models/a//") == "s3://models/a/"


def test_the_image_follows_the_release_and_can_be_set():
    known = serving_image(profile(trtllm_version="0.12.0"), KServeSettings())
    assert known == "nvcr.io/nvidia/tritonserver:24.08-trtllm-python-py3"
    own = KServeSettings(image="registry.example.com/t:1")
    assert serving_image(profile(trtllm_version="1.3.0"), own) == "registry.example.com/t:1"


def test_a_cache_is_explained_only_where_there_is_one():
    with_one = profile(kserve={"local_cache_group": "a100"})
    target = deployment(with_one, with_one.kserve, NEW, namespace="n", repository_bytes=1)
    assert "LocalModelNodeGroup a100" in explain_cache(target)
    assert not explain_cache(deployment(profile(), profile().kserve, NEW, namespace="n"))
