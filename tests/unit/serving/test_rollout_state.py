"""When a rollout is done, and what is said while it isn't."""

from datetime import UTC, datetime

import pytest

from runbook_lib.errors import ServiceError
from runbook_lib.serving.rollout import Patience, Table, Target, _failure
from runbook_lib.serving.rollout_causes import Cause
from runbook_lib.serving.rollout_lines import Line
from runbook_lib.serving.rollout_scheduling import quantity
from runbook_lib.serving.rollout_snapshot import Snapshot, snapshots
from runbook_lib.serving.rollout_state import Row, failed_job, rows, waiting_for

URI = "s3://models/llama/"
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"


def service(ready="True", transition="UpToDate", model=None, metadata=None, **predictor):
    return {
        "metadata": {"name": "llama", "uid": "i", **(metadata or {})},
        "spec": {"predictor": {"model": {"storageUri": URI, **(model or {})}, **predictor}},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "modelStatus": {"transitionStatus": transition},
        },
    }


def deployment(replicas=1, uri=URI, container=None, notes=None, **status):
    said = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 2}
    template = {
        "metadata": {"annotations": {SOURCE: uri, **(notes or {})}},
        "spec": {"containers": [{"name": "kserve-container", **(container or {})}]},
    }
    return {
        "kind": "Deployment",
        "metadata": {"name": "llama-predictor", "uid": "d", "generation": 2},
        "spec": {"replicas": replicas, "template": template},
        "status": said | status,
    }


def waits(target, *deployments):
    return waiting_for(Snapshot("InferenceService", "prod", "llama", target, deployments))


def test_a_service_is_done_when_every_pod_of_the_newest_template_is_available():
    assert waits(service(), deployment()) == ""


@pytest.mark.parametrize(
    ("target", "made", "words"),
    [
        (None, [], "to exist"),
        (service(ready="False"), [deployment()], "to call the service Ready"),
        (service(transition="InvalidSpec"), [deployment()], "that KServe accepts"),
        (service(), [], "to make the Deployment"),
        (service(), [deployment(observedGeneration=1)], "the controller of"),
        (service(), [deployment(replicas=2)], "1 of 2 new pods"),
        (service(), [deployment(availableReplicas=0)], "1 of 1 pods"),
        (service(metadata={"deletionTimestamp": "2026"}), [deployment()], "being deleted"),
        (
            service(metadata={"annotations": {"serving.kserve.io/stop": "true"}}),
            [deployment()],
            "is stopped",
        ),
    ],
)
def test_kserves_word_alone_is_not_enough(target, made, words):
    said = waits(target, *made)
    assert words in said
    assert bool(said) == bool(words)


def test_old_pods_that_still_run_are_waited_for():
    both = deployment()
    both["status"]["replicas"] = 2
    assert waits(service(), both) == "1 old pods of Deployment llama-predictor to end"


TAKE_OVER = [
    ({"uri": "s3://models/old/"}, {}),
    ({}, {"model": {"image": "r/triton:2"}}),
    ({"container": {"args": ["--a"]}}, {"model": {"args": ["--b"]}}),
    ({"container": {"env": [{"name": "A", "value": "1"}]}}, {"model": {"env": [{"name": "A", "value": "2"}]}}),
    ({"container": {"resources": {"limits": {"cpu": "1"}}}}, {"model": {"resources": {"limits": {"cpu": "2"}}}}),
    ({"notes": {"plan": "old"}}, {"annotations": {"plan": "new"}}),
    ({}, {"minReplicas": 3}),
    ({}, {"nodeSelector": {"disk": "fast"}}),
]  # fmt: skip


@pytest.mark.parametrize(("made", "asked"), TAKE_OVER)
def test_a_change_that_the_controller_has_not_taken_over_is_not_ready(made, asked):
    assert "take the change over" in waits(service(**asked), deployment(**made))


def test_the_same_amount_in_other_words_and_a_filled_in_placeholder_are_no_change():
    asked = {"resources": {"limits": {"cpu": "1000m"}}, "args": ["--name={{.Name}}"]}
    made = {"resources": {"limits": {"cpu": "1"}}, "args": ["--name=llama"]}
    assert waits(service(model=asked), deployment(container=made)) == ""


def test_a_model_from_a_node_cache_has_another_uri_in_its_pods():
    cached = service(metadata={"labels": {"internal.serving.kserve.io/localmodel": "llama"}})
    assert waits(cached, deployment(uri="pvc://llama-gpu/models/0123")) == ""


def test_a_job_is_done_when_it_is_complete_and_failed_when_it_says_so():
    def job(*conditions, **status):
        said = [{"type": one, "status": "True"} for one in conditions]
        return Snapshot("Job", "prod", "build", {"status": {"conditions": said, **status}})

    assert waiting_for(job("Complete")) == ""
    assert waiting_for(job(active=1)) == "its pod (1 active, 0 failed)"
    assert (failed_job(job("Failed")), failed_job(job("Complete"))) == (True, False)
    assert waiting_for(job("Failed")) != ""


def test_each_service_gets_its_own_objects_by_owner():
    def owned(kind, name, owner):
        meta = {"name": name, "namespace": "prod", "uid": name, "ownerReferences": [{"uid": owner}]}
        return {"kind": kind, "metadata": meta}

    objects = {
        "InferenceService": [
            {"metadata": {"name": one, "namespace": "prod", "uid": one}} for one in "ab"
        ],
        "Deployment": [owned("Deployment", "a-d", "a"), owned("Deployment", "b-d", "b")],
        "ReplicaSet": [owned("ReplicaSet", "a-r", "a-d"), owned("ReplicaSet", "b-r", "b-d")],
        "Pod": [owned("Pod", "a-p", "a-r"), owned("Pod", "b-p", "b-r"), owned("Pod", "x", "?")],
        "Event": [{"involvedObject": {"uid": "b-r"}, "reason": "FailedCreate"}],
    }
    a, b = snapshots("InferenceService", objects)
    assert [one["metadata"]["name"] for one in (*a.deployments, *a.pods)] == ["a-d", "a-p"]
    assert (len(a.events), len(b.events)) == (0, 1)
    [absent] = snapshots("InferenceService", objects, only=("prod", "c"))
    assert (absent.target, absent.pods) == (None, ())


def test_amounts_are_read_as_kubernetes_writes_them():
    assert [quantity(one) for one in ("500m", "2", "8Gi", "1k", "1e3")] == [
        0.5,
        2.0,
        8 * 2.0**30,
        1000.0,
        1000.0,
    ]


# -- the live table, and when a wait is given up ---------------------------------------------------


def cause(**rest):
    facts = {"id": "quota", "object": "ReplicaSet/a", "title": "t", "why": "w", "evidence": ()}
    return Cause(
        **facts, fix="f", confirm="c", **{"heals": "never", "times": 3, "seconds": 5, **rest}
    )


def test_a_cause_ends_the_wait_only_when_it_was_seen_often_and_long_enough():
    patience = Patience()
    assert patience.settled([cause(seen=3)], at=0) is None
    assert patience.settled([cause(seen=2)], at=6) is None
    assert patience.settled([cause(seen=3)], at=7).id == "quota"


def test_a_cause_that_went_away_in_between_begins_anew():
    patience = Patience()
    patience.settled([cause(seen=3)], at=0)
    patience.settled([], at=4)
    assert patience.settled([cause(seen=3)], at=6) is None


@pytest.mark.parametrize(
    "rest", [{"heals": "maybe"}, {"heals": "harmless"}, {"consequence_of": "x"}]
)
def test_what_may_heal_and_what_only_follows_never_ends_the_wait(rest):
    patience = Patience()
    patience.settled([cause(seen=9, **rest)], at=0)
    assert patience.settled([cause(seen=9, **rest)], at=100) is None


def test_a_rollback_that_fails_does_not_hide_why_it_was_needed():
    def back():
        raise ServiceError("The webhook does not answer.")

    target, stands = Target("InferenceService", "prod", "llama"), Table((), "a pod", (cause(),), 9)
    error = _failure(target, stands, cause(), 60, back)
    assert error.cause == "quota"
    assert "could not be brought back: The webhook does not answer." in error.fix
    assert "left as it is" in _failure(target, stands, cause(), 60, None).fix
    assert "brought it back" in _failure(target, stands, cause(), 60, lambda: "brought it back").fix


def test_a_wait_that_ends_without_a_cause_says_what_was_said():
    target = Target("InferenceService", "prod", "llama")
    line = Line("event", "Pod/a", "SomethingNew: never heard of")
    error = _failure(target, Table((), "a pod", (), 9, unexplained=(line,)), None, 60, None)
    assert (error.cause, "still waits for a pod" in error.why) == ("", True)
    assert "SomethingNew: never heard of" in error.why


def test_the_table_is_text_with_one_row_an_object():
    shown = Table((Row("Pod/a", "not scheduled", 12, "No fitting GPU is free"),), "x", (), 12.4)
    assert str(shown).splitlines() == [
        "object  state          seconds  cause",
        "Pod/a   not scheduled  12       No fitting GPU is free",
        "waiting for x (12 s)",
    ]


def test_a_pods_row_names_the_container_that_it_hangs_on():
    now = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)
    waits_for = {"waiting": {"reason": "CrashLoopBackOff"}}
    pod = {
        "metadata": {"name": "p", "creationTimestamp": "2026-11-24T12:00:00Z"},
        "status": {
            "phase": "Pending",
            "initContainerStatuses": [{"name": "storage-initializer", "state": waits_for}],
            "containerStatuses": [{"name": "kserve-container", "state": {"waiting": {}}}],
        },
    }
    snapshot = Snapshot("InferenceService", "prod", "llama", service(), pods=(pod,))
    last = rows(snapshot, {"Pod/p": "why"}, now)[-1]
    assert last == Row("Pod/p", "storage-initializer: CrashLoopBackOff", 30, "why")
