"""A service that changes while it is used: a new engine, more replicas, a change that fails."""

import threading
from collections import Counter

import pytest

from runbook_lib.errors import RolloutError, RunbookError
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.serving.kserve import deploy, pods_of
from runbook_lib.serving.manifests import render
from runbook_lib.serving.triton import generate
from runbook_lib.targets.kserve import KServeTarget
from runbook_lib.targets.kserve_place import intended

PROMPT = "What is the long form of BLS?"


def quiet(_):
    """A wait whose table nobody reads."""


@pytest.fixture(scope="module")
def target(cluster):
    patch = pytest.MonkeyPatch()
    patch.setenv("RUNBOOK_LAB", cluster.folder.parent.name)
    patch.delenv("KUBECONFIG", raising=False)
    yield KServeTarget.connect()
    patch.undo()


@pytest.fixture(scope="module")
def profiles():
    """One service, and two engines for it."""
    base = load_profile("lab/tiny").value.model_dump()
    base["kserve"] |= {"name": "changing", "drain_seconds": 20}
    base["model_repository"] = "s3://models/triton/changing"
    return {
        name: DeploymentProfile.model_validate(base | {"quantization": name})
        for name in ("none", "int8")
    }


@pytest.fixture(scope="module")
def repositories(target, profiles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repositories")
    made = {}
    for name, profile in profiles.items():
        engine = target.build(profile, folder / f"{name}.log", quiet, rebuild=False)
        made[name] = target.lay_out(profile, engine, folder / name)
        target.publish(made[name], quiet, replace=False)
    return made


@pytest.fixture(scope="module")
def service(target, profiles, repositories):
    """The first engine, served by one pod."""
    (replica,) = target.scale(profiles["none"], repositories["none"], 1, quiet)
    yield replica
    target.undeploy(profiles["none"])


class Load:
    """Users who ask all the time, each on a new connection."""

    def __init__(self, url, users=2):
        self.url, self.said, self.failed = url, Counter(), []
        self._ended = threading.Event()
        self._users = [threading.Thread(target=self._ask) for _ in range(users)]

    def _ask(self):
        while not self._ended.is_set():
            try:
                answer = generate(self.url, "ensemble", PROMPT, max_tokens=8)
            except RunbookError as error:
                self.failed.append(str(error))
            else:
                self.said[bool(answer["text_output"])] += 1

    def __enter__(self):
        for user in self._users:
            user.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for user in self._users:
            user.join()


def url_of(target):
    entry = target.kube.get("Service", "changing-predictor", "runbook-lab")
    return f"http://{entry['spec']['clusterIP']}:{entry['spec']['ports'][0]['port']}"


def engine_of(repository):
    stored = {file.path: file.sha256 for file in repository.files}
    return stored["tensorrt_llm/1/rank0.engine"]


def test_a_new_engine_takes_over_without_a_lost_request(target, profiles, repositories, service):
    assert engine_of(repositories["none"]) != engine_of(repositories["int8"])
    assert service.engine_digest == engine_of(repositories["none"])
    with Load(url_of(target)) as load:
        (now,) = target.scale(profiles["int8"], repositories["int8"], 1, quiet)
    assert now.engine_digest == engine_of(repositories["int8"])
    assert load.failed == []
    assert load.said[True] > 20
    assert load.said[False] == 0


def test_each_of_three_pods_serves_the_same_stored_engine(target, profiles, repositories, service):
    replicas = target.scale(profiles["int8"], repositories["int8"], 3, quiet)
    assert len({one.name for one in replicas}) == 3
    assert {one.engine_digest for one in replicas} == {engine_of(repositories["int8"])}
    assert [one.rebuilt for one in replicas] == [False] * 3
    target.scale(profiles["int8"], repositories["int8"], 1, quiet)
    assert len(pods_of(target.kube, "changing", "runbook-lab")) == 1


def test_a_change_that_fails_is_named_and_what_ran_before_runs_again(
    target, profiles, repositories, service
):
    wrong = profiles["int8"].model_copy(
        update={
            "kserve": profiles["int8"].kserve.model_copy(
                update={"image": "127.0.0.1:5/nope:1", "strategy": "recreate"}
            )
        }
    )
    manifests = render(intended(target.kube, wrong, repositories["int8"], 1))
    with pytest.raises(RolloutError) as told:
        deploy(
            target.kube,
            "changing",
            "runbook-lab",
            manifests,
            on_line=quiet,
            timeout=120,
            on_failure="rollback",
        )
    assert told.value.cause.startswith("image-")
    assert "The revision before was applied again, and is ready." in str(told.value)
    answer = generate(url_of(target), "ensemble", PROMPT, max_tokens=8)
    assert answer["text_output"]


def test_nothing_is_built_again_by_a_new_pod(target, service):
    (pod,) = pods_of(target.kube, "changing", "runbook-lab")
    log = target.kube.logs(pod["metadata"]["name"], "runbook-lab", container="kserve-container")
    assert "loaded as built" in log
    assert "after compiling" not in log
