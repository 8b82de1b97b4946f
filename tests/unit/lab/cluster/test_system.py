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
