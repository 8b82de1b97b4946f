"""Who builds an engine: chosen by the runner's name and the profile's track."""

import json

import pytest
from click.testing import CliRunner

from runbook_lib.changes import Change
from runbook_lib.cli_stages import engine as command
from runbook_lib.engine.build_profile import LocalBuilder
from runbook_lib.errors import ApprovalError, PreflightError, UsageError
from runbook_lib.profile import DeploymentProfile
from runbook_lib.targets import builders
from runbook_lib.targets.kserve import KServeTarget
from runbook_lib.targets.lab import LabTarget

TINY = DeploymentProfile(model_name="tiny", track="lab")
LLAMA = DeploymentProfile(model_name="llama-7b", trtllm_version="0.16.0")


def test_the_lab_builds_its_own_and_in_no_image():
    assert isinstance(builders.builder_for(TINY, "process"), LabTarget)
    with pytest.raises(UsageError, match="lab's builder"):
        builders.builder_for(TINY, "podman")


def test_a_container_is_of_the_image_that_serves(tmp_path, monkeypatch):
    (tmp_path / "podman").write_text("#!/bin/sh\n")
    (tmp_path / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    made = builders.builder_for(LLAMA, "podman")
    assert isinstance(made, LocalBuilder)
    image = "nvcr.io/nvidia/tritonserver:24.12-trtllm-python-py3"
    assert made._runner.about() == {"runner": "podman", "image": image}
    assert builders.builder_for(LLAMA, "process")._runner.about() == {"runner": "process"}


def test_a_job_needs_a_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    said = CliRunner().invoke(command, ["build", "llama-7b", "--runner", "job"])
    assert isinstance(said.exception, PreflightError)


class Cluster:
    """Stands for a cluster: it only counts what reaches it."""

    built = 0

    def build_changes(self, profile, **_):
        return [Change("run", "Job that builds the engine", profile.model_name)]

    def build(self, *_, **__):
        self.built += 1
        raise PreflightError("reached")


def test_a_job_is_sent_only_when_its_plan_is_approved(tmp_path, monkeypatch):
    cluster = Cluster()
    monkeypatch.setattr(KServeTarget, "connect", lambda: cluster)
    path = tmp_path / "p.yaml"
    path.write_text(json.dumps({"model_name": "llama-7b"}))
    said = CliRunner().invoke(command, ["build", str(path), "--runner", "job"])
    assert isinstance(said.exception, ApprovalError)
    assert cluster.built == 0
    digest = said.stderr.split("plan ")[1].split()[0]
    again = ["build", str(path), "--runner", "job", "--approve", digest]
    assert isinstance(CliRunner().invoke(command, again).exception, PreflightError)
    assert cluster.built == 1
