"""Why a build Job failed or does not start: from Kubernetes' own words for each case."""

import pytest

from runbook_lib.engine.job_failure import Seen, newest_event, why_ended, why_waiting

STEPS = ("weights", "convert-checkpoint", "build-engine")


def job(reason="BackoffLimitExceeded", message="Job has reached the specified backoff limit"):
    failed = {"type": "Failed", "status": "True", "reason": reason, "message": message}
    return {
        "metadata": {"name": "build-tiny-1"},
        "spec": {"activeDeadlineSeconds": 60},
        "status": {"conditions": [failed]},
    }


def pod(name="build-tiny-1-abcde", phase="Pending", conditions=(), **states):
    """A pod whose containers are in the states given, by name with `_` for `-`."""

    def status(one):
        return {"name": one, "state": states.get(one.replace("-", "_"), {"waiting": {}})}

    def spec(one):
        image = {"weights": "storage:1", "upload": "storage:1"}.get(one, "triton:1")
        return {"name": one, "image": image, "resources": {"limits": {"memory": "1Gi"}}}

    return {
        "metadata": {"name": name, "creationTimestamp": "2026-11-24T19:00:00Z"},
        "spec": {"initContainers": [spec(one) for one in STEPS], "containers": [spec("upload")]},
        "status": {
            "phase": phase,
            "conditions": list(conditions),
            "initContainerStatuses": [status(one) for one in STEPS],
            "containerStatuses": [status("upload")],
        },
    }


def ended(code, reason="Error", message=""):
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def waiting(reason, message=""):
    return {"waiting": {"reason": reason, "message": message}}


def event(reason, message, at="2026-11-24T19:00:01Z"):
    return {"reason": reason, "message": message, "lastTimestamp": at, "metadata": {}}


DONE = ended(0, "Completed")
FAILED_STEP = {"weights": DONE, "convert_checkpoint": ended(1)}


def test_a_failed_step_is_named_with_its_exit_code_and_its_last_words():
    seen = Seen(
        job(),
        [pod(phase="Failed", **FAILED_STEP)],
        said={("build-tiny-1-abcde", "convert-checkpoint"): ["a", "[lab-build] error: no config"]},
    )
    error = why_ended(seen).error("The whole log: x.log")
    assert "build step convert-checkpoint failed (exit code 1)" in error.what
    assert "no config" in error.why
    assert error.fix.endswith("The whole log: x.log")


def test_without_a_log_the_last_words_are_those_the_kubelet_kept():
    state = ended(1, message="line one\nno such file")
    seen = Seen(job(), [pod(phase="Failed", weights=DONE, convert_checkpoint=state)])
    assert "no such file" in why_ended(seen).why


def test_a_step_killed_for_memory_names_its_limit():
    state = ended(137, "OOMKilled")
    seen = Seen(job(), [pod(phase="Failed", weights=DONE, convert_checkpoint=state)])
    found = why_ended(seen)
    assert "convert-checkpoint was killed for memory" in found.what
    assert "limit is 1Gi" in found.why


@pytest.mark.parametrize(
    ("step", "told"),
    [("weights", "Fetching the weights failed"), ("upload", "Storing the engine failed")],
)
def test_what_talks_to_the_store_is_told_in_words(step, told):
    found = why_ended(Seen(job(), [pod(phase="Failed", **{step: ended(1)})]))
    assert told in found.what
    assert "Secret" in found.fix


def test_a_program_that_is_not_in_the_image_is_told_with_the_image():
    seen = Seen(job(), [pod(phase="Failed", weights=DONE, convert_checkpoint=ended(127))])
    assert "not in the image triton:1" in why_ended(seen).what


def test_of_several_pods_the_last_one_tells_why():
    first = pod("one", phase="Failed", weights=ended(1))
    last = pod("two", phase="Failed", weights=DONE, convert_checkpoint=ended(3))
    assert "exit code 3" in why_ended(Seen(job(), [first, last])).what


def test_a_deadline_names_the_step_that_it_met():
    late = job("DeadlineExceeded", "Job was active longer than specified deadline")
    running = pod(phase="Running", weights=DONE, convert_checkpoint={"running": {}})
    found = why_ended(Seen(late, [running]))
    assert "deadline of 60 s" in found.what
    assert "convert-checkpoint" in found.why


def test_a_deadline_before_any_pod_started_says_so():
    assert "No pod" in why_ended(Seen(job("DeadlineExceeded"), [])).why


def test_a_full_work_folder_is_no_failure_of_the_step():
    one = pod(phase="Failed", weights=ended(137))
    one["status"] |= {
        "reason": "Evicted",
        "message": 'Usage of EmptyDir volume "work" exceeds the limit "1Gi". ',
    }
    found = why_ended(Seen(job(), [one]))
    assert "Evicted" in found.what
    assert "work_size" in found.fix


def test_a_pod_that_was_preempted_is_told():
    taken = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    found = why_ended(Seen(job(), [pod(phase="Failed", conditions=[taken])]))
    assert "PreemptionByScheduler" in found.what


def test_what_is_unknown_is_given_in_kubernetes_own_words():
    found = why_ended(Seen(job("PodFailurePolicy", "matched a rule"), []))
    assert ("PodFailurePolicy" in found.what, found.why) == (True, "matched a rule")


# -- before it starts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "message", "fix"),
    [
        ("ErrImagePull", "failed to resolve reference: not found", "name and tag"),
        ("ImagePullBackOff", "pull access denied, insufficient_scope", "image_pull_secrets"),
        ("ErrImageNeverPull", "is not present with pull policy of Never", "name and tag"),
    ],
)
def test_an_image_that_can_t_be_pulled_is_named(reason, message, fix):
    found = why_waiting(Seen(job(), [pod(weights=waiting(reason, message))]))
    assert "image storage:1" in found.what
    assert fix in found.fix
    assert found.patience is not None


def test_a_secret_that_is_missing_is_named_by_the_kubelet_s_words():
    state = waiting("CreateContainerConfigError", 'secret "s3-keys" not found')
    found = why_waiting(Seen(job(), [pod(weights=state)]))
    assert found.why == 'secret "s3-keys" not found'
    assert found.patience is not None


def test_a_pod_that_fits_nowhere_waits_as_long_as_it_takes():
    said = "0/4 nodes are available: 4 Insufficient nvidia.com/gpu."
    place = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    found = why_waiting(Seen(job(), [pod(conditions=[place])]))
    assert (found.why, found.patience) == (said, None)


def test_a_quota_is_told_by_the_event_of_the_job():
    said = 'pods "x" is forbidden: exceeded quota: gpus, requested: 2, used: 8, limited: 8'
    found = why_waiting(Seen(job(), [], [event("FailedCreate", said)]))
    assert found.why == said
    assert "quota" in found.fix


def test_a_volume_that_can_t_be_mounted_is_told():
    said = 'MountVolume.SetUp failed for volume "weights"'
    found = why_waiting(Seen(job(), [pod()], [event("FailedMount", said)]))
    assert found.why == said


def test_a_node_that_can_t_start_pods_is_told():
    said = "Failed to create pod sandbox: runc create failed"
    found = why_waiting(Seen(job(), [pod()], [event("FailedCreatePodSandBox", said)]))
    assert (found.why, "node" in found.what) == (said, True)


def test_a_volume_that_was_late_is_no_trouble_once_something_runs():
    late = [event("FailedMount", "MountVolume.SetUp failed")]
    assert why_waiting(Seen(job(), [pod(weights={"running": {}})], late)) is None


def test_a_pod_that_works_has_no_trouble():
    seen = Seen(job(), [pod(weights=DONE, convert_checkpoint={"running": {}})])
    assert why_waiting(seen) is None


def test_the_newest_event_is_the_one_that_came_last():
    events = [
        event("FailedMount", "late", "2026-11-24T19:00:09Z"),
        event("Pulled", "there", "2026-11-24T19:00:09Z"),
        event("MissingClusterDNS", "as always", "2026-11-24T19:00:10Z"),
        event("Scheduled", "to node", "2026-11-24T19:00:01Z"),
    ]
    assert newest_event(events) == "FailedMount: late"
