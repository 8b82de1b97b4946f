import os
import re

import pytest

from runbook_lib.errors import PreflightError
from runbook_lib.lab.cluster import system


def test_without_root_the_cluster_is_refused_and_another_way_is_named(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PreflightError) as refused:
        system.check_system()
    assert "root on Linux" in refused.value.what
    assert "--target kserve" in refused.value.fix


def test_each_missing_program_is_named_by_its_package(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(system, "PROGRAMS", {"no-such-program-here": "some-package"})
    monkeypatch.setattr(system, "CNI", ("/no/such/folder",))
    with pytest.raises(PreflightError) as refused:
        system.check_system()
    assert "apt-get install -y containernetworking-plugins some-package" in refused.value.fix


def test_the_setup_installs_every_package_that_the_cluster_asks_for():
    setup = (system.Path(__file__).parents[4] / ".ci" / "setup").read_text(encoding="utf-8")
    essential = {"util-linux", "mount"}  # no Debian is without them
    wanted = {*system.PROGRAMS.values(), system.CNI_PACKAGE} - essential
    assert wanted - set(re.findall(r"[\w.-]+", setup)) == set()


def cgroups(root, **files):
    """A folder that looks like /sys/fs/cgroup."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_in_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return root


ALL = "cpuset cpu io memory pids"
V2 = {"cgroup_in_controllers": ALL, "cgroup_in_procs": "1\n", "cgroup_in_subtree_control": ""}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (
            dict.fromkeys(("cpu__cgroup_in_procs", "memory__cgroup_in_procs"), ""),
            "hierarchy of pids",
        ),
        ({}, "hierarchy of cpu, memory, pids"),
        (V2 | {"cgroup_in_controllers": "cpu pids"}, "does not offer memory"),
        # As a container sees its own group: processes in it, and nothing handed on.
        (V2 | {"cgroup_in_type": "domain"}, "can't hand on cpu, memory, pids"),
        (V2, ""),
        (V2 | {"cgroup_in_type": "domain", "cgroup_in_subtree_control": ALL}, ""),
        (V2 | {"cgroup_in_type": "domain", "cgroup_in_procs": ""}, ""),
        ({f"{one}__cgroup_in_procs": "" for one in system.CONTROLLERS}, ""),
    ],
)
def test_control_groups_that_can_limit_no_pod_are_told_before_a_start(tmp_path, files, words):
    said = system.cgroup_problem(cgroups(tmp_path, **files))
    assert words in said if words else said == ""


def test_a_process_that_may_make_no_node_is_told_so_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(system, "missing_packages", list)
    monkeypatch.setattr(system, "CGROUPS", tmp_path)
    with pytest.raises(PreflightError, match="make no node") as refused:
        system.check_system()
    assert "--privileged" in refused.value.fix
