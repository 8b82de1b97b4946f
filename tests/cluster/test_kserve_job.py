"""The main job on a real cluster: a Job builds, the cluster's store holds, pods serve and are measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from runbook_lib.kube.client import Kube
from runbook_lib.lab.cluster.home import NAMESPACE, SECRET
from runbook_lib.profile import load_profile
from runbook_lib.serving.kserve import undeploy
from runbook_lib.serving.manifests_roles import PAGE_ROLES

RUNBOOK = str(Path(sys.executable).parent / "runbook")
SERVICE = "tiny-llama"
PAGES = (
    "00_plan",
    "01_build_engine",
    "02_model_repository",
    "03_deploy",
    "04_benchmark",
    "05_tradeoffs",
    "06_troubleshoot",
)


class Command:
    """`runbook …` with the tests' cluster as the one at hand, as somebody of few rights."""

    def __init__(self, cluster, folder, kubeconfig):
        lab = cluster.folder.parent.name
        self.env = os.environ | {"RUNBOOK_LAB": lab, "KUBECONFIG": str(kubeconfig)}
        self.folder = folder

    def __call__(self, *words, code=0):
        done = subprocess.run(
            [RUNBOOK, *words, "--json"],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def kube(cluster):
    found = Kube.connect(cluster.kubeconfig)
    yield found
    undeploy(found, SERVICE, NAMESPACE)


@pytest.fixture(scope="module")
def commands(kube, cluster, sign_in, tmp_path_factory):
    """`runbook …` as an account that has a page's roles and nothing else; all in one folder."""
    folder = tmp_path_factory.mktemp("kserve")

    def make(page):
        account = f"page-{page[:2]}"
        return Command(cluster, folder, sign_in(account, PAGE_ROLES[page], NAMESPACE, SECRET))

    return make


@pytest.fixture(scope="module")
def runbook(commands):
    """With the roles of page 05, which takes what every page before it takes."""
    return commands("05_tradeoffs")


@pytest.fixture(scope="module")
def job(runbook):
    """All seven pages, run once for these tests; an engine that another test stored is no reason."""
    words = ("--profile", "lab/tiny", "--target", "kserve", "--approve", "auto")
    return runbook("run", "all", *words, "-p", "requests=80", "-p", "rebuild=true")


@pytest.fixture(scope="module")
def artifact(job):
    folder = Path(job["folder"]) / "artifacts"
    return lambda name: json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def stored(artifact):
    return artifact("repository")["uri"]


def test_every_page_is_green(job, kube):
    about = json.loads((Path(job["folder"]) / "run.json").read_text())
    assert {name: page["status"] for name, page in about["pages"].items()} == dict.fromkeys(
        PAGES, "completed"
    )
    assert (about["target"], about["track"]) == ("kserve", "lab")


def test_the_engine_was_built_by_a_job_of_the_cluster(artifact, kube):
    engine = artifact("engine")
    jobs = kube.list("Job", NAMESPACE, labels="app.kubernetes.io/component=engine-build")
    made = {one["metadata"]["annotations"]["runbook/inputs"] for one in jobs}
    assert engine["inputs_digest"] in made
    assert [phase["name"] for phase in engine["phases"]][-1] == "verify"


def test_each_pod_serves_the_stored_engine_as_it_was_built(artifact, kube):
    service = artifact("service")
    stored = {file["path"]: file["sha256"] for file in artifact("repository")["files"]}
    engine = stored["tensorrt_llm/1/rank0.engine"]
    assert [one["engine_digest"] for one in service["replicas"]] == [engine, engine]
    assert [one["rebuilt"] for one in service["replicas"]] == [False, False]


def test_pods_were_measured_and_every_request_was_answered(artifact):
    for name in ("measurement", "measurement-poisson"):
        found = artifact(name)
        assert (found["failed"], found["requests"]) == (0, 80)
        assert "127.0.0.1" not in found["url"], "this machine reaches the cluster's own addresses"


def test_every_engine_of_the_study_was_served_by_a_pod_of_its_own_that_is_gone(artifact, kube):
    rows = artifact("tradeoff")["rows"]
    assert [row["status"] for row in rows] == ["measured"] * 8
    services = kube.list("InferenceService", NAMESPACE)
    assert [one["metadata"]["name"] for one in services] == [SERVICE]


def test_a_healthy_service_has_no_finding(artifact):
    found = artifact("diagnosis")
    assert found["findings"] == []
    assert "InferenceService tiny-llama" in found["sources"]


def test_troubleshooting_needs_no_more_than_its_own_roles(commands, job):
    words = ("--profile", "lab/tiny", "--target", "kserve", "--resume", job["folder"])
    again = commands("06_troubleshoot")("run", "06_troubleshoot", *words, "-p", "drill=false")
    found = json.loads((Path(again["folder"]) / "artifacts/diagnosis.json").read_text())
    assert found["findings"] == []
    assert not [source for source, said in found["sources"].items() if "not read" in said]


def test_deploying_the_same_again_would_change_nothing(runbook, stored):
    words = ("--target", "kserve", "--repository", stored, "--replicas", "2", "--dry-run")
    told = runbook("deploy", "lab/tiny", *words)
    assert told["would"] == []
    assert [one["kind"] for one in told["manifests"]][:3] == [
        "ServiceAccount",
        "ServingRuntime",
        "InferenceService",
    ]


def test_a_change_can_be_rolled_back(runbook, stored, kube):
    def replicas():
        live = kube.get("InferenceService", SERVICE, NAMESPACE)
        return live["spec"]["predictor"]["minReplicas"]

    # Of somebody whose weights are not here: the stored tokenizer counts, the stored engine is judged.
    given = load_profile("lab/tiny").value.model_dump(mode="json") | {"weights": "hf://not/here"}
    other = runbook.folder / "other.yaml"
    other.write_text(yaml.safe_dump(given), encoding="utf-8")
    words = (str(other), "--target", "kserve", "--repository", stored, "--replicas", "1")
    told = runbook("deploy", *words, "--dry-run")
    assert any("-    minReplicas: 2" in text for text in told["diffs"].values())
    service = runbook("deploy", *words, "--approve", "auto")
    assert service["smoke_answer"]
    assert replicas() == 1
    runbook("rollback", "lab/tiny")
    assert replicas() == 2


def test_the_status_of_every_service_is_told(runbook, job):
    told = runbook("status", "--namespace", NAMESPACE)
    assert [(one["name"], one["ready"]) for one in told["services"]] == [(SERVICE, True)]


def test_undeploy_removes_everything_that_was_applied(runbook, kube, job):
    told = runbook("undeploy", "lab/tiny", "--target", "kserve")
    assert f"InferenceService {SERVICE}" in told["stopped"]
    for kind in ("InferenceService", "ServingRuntime", "ControllerRevision", "Pod", "Deployment"):
        left = [one["metadata"]["name"] for one in kube.list(kind, NAMESPACE)]
        assert [name for name in left if name.startswith(SERVICE)] == [], kind
