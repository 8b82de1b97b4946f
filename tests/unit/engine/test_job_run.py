"""When a build Job counts as ended: by its own word, or before that by its pods'."""

import pytest

from runbook_lib.engine.job_run import _decided


def job(*conditions, retries=0):
    held = [{"type": one, "status": "True"} for one in conditions]
    return {"metadata": {}, "spec": {"backoffLimit": retries}, "status": {"conditions": held}}


def pod(phase, *, deleted=False):
    metadata = {"deletionTimestamp": "2026-11-24T20:00:00Z"} if deleted else {}
    return {"metadata": metadata, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("ended", "pods", "decided"),
    [
        (job(), [], False),
        (job(), [pod("Running")], False),
        (job("Complete"), [], True),
        (job("Failed"), [], True),
        (job("FailureTarget"), [pod("Running")], False),
        (job(), [pod("Succeeded")], True),
        (job(), [pod("Failed")], True),
        (job(retries=1), [pod("Failed")], False),
        (job(retries=1), [pod("Failed"), pod("Running")], False),
        (job(retries=1), [pod("Failed"), pod("Failed")], True),
        (job(retries=1), [pod("Failed"), pod("Succeeded")], True),
        # At a deadline the pods end before the Job says why.
        (job(), [pod("Failed", deleted=True)], False),
    ],
)
def test_a_job_has_ended_when_nothing_of_it_can_go_on(ended, pods, decided):
    assert _decided(ended, pods) == decided
