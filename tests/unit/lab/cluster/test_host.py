import json

import pytest

from runbook_lib.lab.cluster import host
from runbook_lib.lab.cluster.network import Network


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Folders that stand for what clusters share on a machine; control groups are plain folders."""
    groups = tmp_path / "cgroup"
    (groups / "pids").mkdir(parents=True)
    (groups / "pids" / "cgroup.procs").write_text("")
    monkeypatch.setattr(host, "CGROUPS", groups)
    monkeypatch.setattr(host, "SHARED", tmp_path / "shared.json")
    monkeypatch.setattr(host, "SETTINGS", ())
    monkeypatch.setattr(host, "PLACES", (str(tmp_path / "var" / "kubelet"), str(tmp_path / "var")))
    return tmp_path


def test_what_clusters_share_is_put_back_by_the_last_one_only(machine):
    kubelet = machine / "var" / "kubelet"
    first, second = machine / "one", machine / "two"
    for number, folder in enumerate((first, second)):
        host.prepare(folder, Network(f"10.9{number}.0.0/22"))
    assert kubelet.is_dir()

    host.sweep(first)
    assert kubelet.is_dir()
    assert host.leftovers(first) == []

    host.sweep(second)
    assert not (machine / "var").exists()
    assert not host.SHARED.exists()
    assert host.leftovers(second) == []


def test_a_folder_that_was_there_before_stays(machine):
    (machine / "var" / "kubelet").mkdir(parents=True)
    host.prepare(machine / "one", Network("10.90.0.0/22"))
    host.sweep(machine / "one")
    assert (machine / "var" / "kubelet").is_dir()


def test_a_folder_that_somebody_else_uses_by_now_stays(machine):
    host.prepare(machine / "one", Network("10.90.0.0/22"))
    (machine / "var" / "kubelet" / "theirs").touch()
    host.sweep(machine / "one")
    assert (machine / "var" / "kubelet" / "theirs").exists()


def test_a_control_group_that_can_not_be_removed_is_told_and_stays_written_down(
    machine, monkeypatch
):
    monkeypatch.setattr(host, "_until", lambda done, _seconds: done())
    one = host.prepare(machine / "one", Network("10.90.0.0/22"))
    group = host.membership(one).parent
    (group / "held").mkdir()
    (group / "held" / "file").touch()
    host.sweep(machine / "one")
    assert any(str(group) in said for said in host.leftovers(machine / "one"))
    assert json.loads((machine / "one" / "host.json").read_text()) == {"network": "10.90.0.0/22"}
    assert host.read_host(machine / "one") == one


def test_names_on_the_host_fit_the_kernel_and_tell_clusters_apart(tmp_path):
    names = {host.link_of(tmp_path / str(number)) for number in range(50)}
    assert len(names) == 50
    assert all(len(name) <= 15 for name in names)  # the longest name of an interface


def test_with_version_2_the_root_hands_on_what_the_kubelet_wants_and_takes_it_back(machine):
    # A kernel keeps what is on in this file; a plain file keeps what was written last.
    (host.CGROUPS / "cgroup.controllers").write_text("cpuset cpu io memory pids")
    (host.CGROUPS / "cgroup.subtree_control").write_text("cpu memory pids")
    (host.CGROUPS / "cgroup.procs").write_text("")
    host.prepare(machine / "one", Network("10.90.0.0/22"))
    assert (host.CGROUPS / "cgroup.subtree_control").read_text() == "+cpuset"
    host.sweep(machine / "one")
    assert (host.CGROUPS / "cgroup.subtree_control").read_text() == "-cpuset"
