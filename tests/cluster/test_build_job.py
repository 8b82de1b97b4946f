"""Engines built by a Job on the cluster: by the lab's builder, from weights in the object store."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from runbook_lib.engine.build import kept_engine
from runbook_lib.engine.commands import Command
from runbook_lib.engine.job import (
    ENGINE,
    WEIGHTS,
    WORK,
    BuildOrder,
    BuildPlace,
    StoreKeys,
    build_job,
)
from runbook_lib.engine.job_run import run_build_job
from runbook_lib.errors import BuildError, RepositoryError
from runbook_lib.files import content_digest, list_files
from runbook_lib.kube.client import Kube
from runbook_lib.lab.builder_commands import MODEL, build_inputs, commands_in
from runbook_lib.lab.cluster.cluster import restart
from runbook_lib.lab.cpu import isa_level
from runbook_lib.lab.engines import problems_of, read_identity
from runbook_lib.profile import load_profile
from runbook_lib.repository.fetch import fetch
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store import push, read_manifest
from runbook_lib.values import digest_of

PROGRAM = ("python3", "/opt/lab/builder")


def ignored(_line):
    pass


class Builds:
    """Orders for one namespace of the cluster, and what became of them."""

    def __init__(self, cluster, namespace, folder):
        self.kube = Kube.connect(cluster.kubeconfig)
        self.namespace = str(namespace)
        self.folder = folder
        self.access = S3Access(
            cluster.s3_endpoint, cluster.credentials.access_key, cluster.credentials.secret_key
        )
        self.keys = StoreKeys(secret=namespace.secret, endpoint=cluster.s3_endpoint)
        self.place = BuildPlace(
            namespace=self.namespace,
            image=cluster.images.triton,
            storage_image=cluster.images.storage_initializer,
            cpu="100m",
            cpu_limit="2",
            memory="2Gi",
            work_size="2Gi",
        )
        self.profile = load_profile("lab/tiny").value
        self.inputs = build_inputs(self.profile, isa_level())
        weights = f"s3://builds/weights/{content_digest(list_files(MODEL))[7:19]}/"
        push(MODEL, weights, credentials=self.access, create_bucket=True)
        # Another namespace's engine of these inputs must not be taken for this one's.
        self.order = BuildOrder(
            model=self.profile.model_name,
            inputs=digest_of(self.inputs),
            commands=commands_in(self.profile, PROGRAM, WEIGHTS, WORK),
            weights=weights,
            result=f"s3://builds/{self.namespace}/tiny/",
        )

    def stored(self, uri):
        try:
            read_manifest(uri, credentials=self.access)
        except RepositoryError:
            return False
        return True

    def run(self, order=None, place=None, keys=None, *, on_line=ignored, timeout=120.0, **options):
        order = order or self.order
        manifests = build_job(order, place or self.place, keys or self.keys, **options)
        name = manifests[1]["metadata"]["name"]
        return run_build_job(
            self.kube,
            manifests,
            stored=lambda: self.stored(order.result),
            log=self.folder / f"{name}.log",
            on_line=on_line,
            timeout=timeout,
        )

    def jobs(self):
        return {one["metadata"]["name"] for one in self.kube.list("Job", self.namespace)}


@pytest.fixture(scope="module")
def builds(cluster, module_namespace, tmp_path_factory):
    made = Builds(cluster, module_namespace, tmp_path_factory.mktemp("builds"))
    yield made
    made.kube.close()


@pytest.fixture(scope="module")
def built(builds):
    lines = []
    return builds.run(on_line=lines.append), lines


def test_an_engine_is_built_in_a_pod_stored_by_digest_and_fits_this_machine(
    builds, built, tmp_path
):
    result, lines = built
    store = tmp_path / "engines"
    folder = store / builds.order.inputs[7:23]
    fetched = fetch(builds.order.result, folder, credentials=builds.access)
    assert fetched.digest == content_digest(list_files(folder))
    assert problems_of(folder) == []
    # The receipt that came with it holds here, as that of a build on this machine.
    engine = kept_engine(builds.inputs, lambda folder, _: read_identity(folder), store=store)
    assert engine.reused
    names = [one.name for one in result.phases]
    assert names == ["weights", *(one.name for one in engine.phases), "upload"]
    assert {"ir", "compile", "verify"} <= set(names)
    assert result.node
    assert any("phase compile start" in line for line in lines)


def test_a_second_run_keeps_it_and_applies_nothing(builds, built):
    before = builds.jobs()
    lines = []
    again = builds.run(on_line=lines.append)
    assert again.kept
    assert builds.jobs() == before
    assert builds.order.result in lines[0]


def test_the_job_owns_what_was_made_for_it(builds, built):
    config = builds.kube.get("ConfigMap", built[0].job, builds.namespace)
    assert config["metadata"]["ownerReferences"][0]["name"] == built[0].job


# -- cut and taken up again ------------------------------------------------------------------------


def python(step, text):
    """A step that is no build, to force what a build can't be made to do."""
    return Command(step, ("python3", "-c", text))


MAKE = f"import os; os.mkdir('{ENGINE}'); open('{ENGINE}/config.json', 'w').write('{{}}')"


def other(builds, name, *commands, **changes):
    """Another engine of the same weights."""
    order = replace(
        builds.order,
        model=name,
        inputs=f"sha256:{name}",
        result=f"s3://builds/{builds.namespace}/{name}/",
    )
    return replace(order, **({"commands": commands} if commands else {}), **changes)


def test_a_run_that_is_cut_is_taken_up_again_with_all_it_said(builds):
    order = other(builds, "cut")

    def cut(line):
        if "phase ir start" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builds.run(order, on_line=cut)
    lines = []
    result = builds.run(order, on_line=lines.append)
    assert result.attached
    assert any("going on with it" in line for line in lines)
    names = [one.name for one in result.phases]
    assert names == ["weights", "read", "gguf", "ir", "compile", "pack", "verify", "upload"]


@pytest.fixture
def claim(cluster, builds):
    """A volume claim on a folder of the node."""
    name, folder = f"{builds.namespace}-scratch", cluster.folder / "volumes" / builds.namespace
    folder.mkdir(parents=True)
    about = {"storageClassName": "", "accessModes": ["ReadWriteOnce"]}
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [cluster.node]}
    builds.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **about,
                "capacity": {"storage": "1Gi"},
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": str(folder)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }
    )
    asked = {"resources": {"requests": {"storage": "1Gi"}}, "volumeName": name}
    builds.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "scratch", "namespace": builds.namespace},
            "spec": about | asked,
        }
    )
    yield "scratch"
    builds.kube.delete("PersistentVolumeClaim", "scratch", builds.namespace)
    builds.kube.delete("PersistentVolume", name)
    shutil.rmtree(folder, ignore_errors=True)


def test_on_a_claim_the_next_pod_goes_on_behind_the_last_step(builds, claim):
    once = f"import os, pathlib; p = pathlib.Path('{WEIGHTS}/tried')"
    once += "; was = p.exists(); p.touch(); was or os._exit(9)"
    order = other(builds, "claim", python("first", "pass"), python("second", f"{once}; {MAKE}"))
    lines = []
    place = replace(builds.place, work_claim=claim)
    result = builds.run(order, place, on_line=lines.append, retries=1)
    assert "[runbook] error: step second ended with exit code 9" in lines
    kept = [line.split()[2] for line in lines if "was done before and is kept" in line]
    assert kept == ["weights", "first"]
    assert [one.name for one in result.phases] == ["weights", "first", "second", "upload"]


# -- what can go wrong -----------------------------------------------------------------------------


def broken_checkpoint(builds, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    (folder / "config.json").write_text('{"architectures": ["GPT5ForCausalLM"]}')
    push(folder, "s3://builds/weights/broken/", credentials=builds.access, replace=True)
    return other(builds, "broken", weights="s3://builds/weights/broken/")


@pytest.fixture(scope="module")
def failures(builds, tmp_path_factory):
    """Each way to fail, tried at once: the errors by name."""
    small = replace(builds.place, cpu="20m")
    gpus = replace(small, gpu_resource="nvidia.com/gpu", gpu_count=64)
    tries = {
        "checkpoint": (broken_checkpoint(builds, tmp_path_factory), small),
        "memory": (other(builds, "memory"), replace(small, memory="64Mi")),
        "image": (other(builds, "image"), replace(small, image="127.0.0.1:5/nope:1")),
        "secret": (other(builds, "secret"), small, replace(builds.keys, secret="no-such-secret")),
        "weights": (other(builds, "weights", weights="s3://no-such-bucket/w/"), small),
        "result": (other(builds, "result", python("a", MAKE), result="s3://nowhere/x/"), small),
        "program": (other(builds, "program", Command("build", ("trtllm-build",))), small),
        "empty": (other(builds, "empty", python("a", "pass")), small),
        "gpus": (other(builds, "gpus"), gpus),
        "deadline": (other(builds, "late", python("a", "import time; time.sleep(99)")), small),
    }
    options = {"deadline": {"deadline": 30}, "gpus": {"timeout": 8.0}}

    def failing(name):
        with pytest.raises(BuildError) as failed:
            builds.run(*tries[name], **options.get(name, {}))
        return failed.value

    with ThreadPoolExecutor(len(tries)) as pool:
        return dict(zip(tries, pool.map(failing, tries), strict=True))


@pytest.mark.parametrize(
    ("name", "what", "why"),
    [
        ("checkpoint", "build step convert-checkpoint failed (exit code 1)", "GPT5"),
        ("memory", "build step convert-checkpoint was killed for memory", "64Mi"),
        ("image", "image 127.0.0.1:5/nope:1 of the build can't be pulled", "nope"),
        ("secret", "container weights of the build can't be started", "no-such-secret"),
        ("weights", "Fetching the weights failed", "no-such-bucket"),
        ("result", "Storing the engine failed", "NoSuchBucket"),
        ("program", "can't start: its program is not in the image", "trtllm-build"),
        ("empty", "Storing the engine failed", "without an engine"),
        ("gpus", "has not ended after 8 s", "Insufficient nvidia.com/gpu"),
        ("deadline", "longer than its deadline of 30 s", "the step"),
    ],
)
def test_a_build_that_fails_says_where_and_why(failures, name, what, why):
    error = failures[name]
    assert what in error.what
    assert why in error.why
    assert error.fix


def test_a_failed_job_is_left_to_look_at_and_the_next_run_replaces_it(builds, failures):
    order, place = other(builds, "empty", python("a", "pass")), replace(builds.place, cpu="20m")
    name = build_job(order, place, builds.keys)[1]["metadata"]["name"]
    left = builds.kube.get("Job", name, builds.namespace)
    lines = []
    with pytest.raises(BuildError):
        builds.run(order, place, on_line=lines.append)
    assert "of an earlier run has ended: it is replaced" in lines[0]
    again = builds.kube.get("Job", name, builds.namespace)
    assert again["metadata"]["uid"] != left["metadata"]["uid"]


# The last: its controllers take a minute to come back.
def test_the_api_server_may_restart_while_it_builds(cluster, builds):
    text = f"import time; print('begun', flush=True); time.sleep(15); {MAKE}"
    lines = []

    def restarting(line):
        lines.append(line)
        if line == "begun":
            restart(cluster, "kube-apiserver")

    order = other(builds, "restart", python("wait", text))
    assert builds.run(order, on_line=restarting).seconds >= 15
    assert lines.count("begun") == 1
    assert builds.stored(order.result)
