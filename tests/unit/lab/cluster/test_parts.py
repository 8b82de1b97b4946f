import re

import pytest

from runbook_lib.errors import UsageError
from runbook_lib.lab.cluster.go import new_enough
from runbook_lib.lab.cluster.parts import (
    MODULES,
    Part,
    default_kserve,
    kserve_part,
    kserve_versions,
    parts,
)


@pytest.mark.parametrize("name", parts())
def test_a_part_is_built_from_the_version_that_its_own_module_names(name):
    part = parts()[name]
    module = (MODULES / name / "go.mod").read_text(encoding="utf-8")
    assert re.search(
        rf"^\s*(require )?{re.escape(part.module)} v{part.version}$", module, re.MULTILINE
    )


@pytest.mark.parametrize("name", parts())
def test_the_sum_of_a_part_and_of_everything_under_it_is_known(name):
    part = parts()[name]
    sums = (MODULES / name / "go.sum").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(part.module)} v{part.version} h1:\S+=$", sums, re.MULTILINE)
    assert len(sums.splitlines()) > 50


def test_kubernetes_says_the_version_that_was_built():
    part = parts()["kubernetes"]
    assert part.settings["k8s.io/component-base/version.gitVersion"] == f"v{part.version}"


def test_the_libraries_of_kubernetes_are_of_its_own_release():
    module = (MODULES / "kubernetes" / "go.mod").read_text(encoding="utf-8")
    replaced = re.findall(r"^\t(k8s\.io/\S+) => (k8s\.io/\S+) v0\.(\S+)$", module, re.MULTILINE)
    assert len(replaced) > 20
    minor = parts()["kubernetes"].version.removeprefix("1.")
    assert {(old == new, version) for old, new, version in replaced} == {(True, minor)}


def test_each_kserve_is_another_folder_and_each_has_its_own_sum():
    known = [kserve_part(version) for version in kserve_versions()]
    assert (
        len({part.folder for part in known}) == len(known) == len({part.own_sum for part in known})
    )
    assert default_kserve() in kserve_versions()


def test_another_sum_is_another_build():
    known = kserve_part(default_kserve())
    other = Part(
        known.name, known.version, known.module, known.programs, known.files, own_sum="h1:x"
    )
    assert other.folder != known.folder


def test_a_kserve_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(UsageError) as refused:
        kserve_part("0.14.0")
    assert "0.16.0" in refused.value.why
    assert default_kserve() in refused.value.fix


@pytest.mark.parametrize(
    ("said", "enough"),
    [
        ("go version go1.26.8 linux/amd64", True),
        ("go version go1.26 linux/amd64", True),
        ("go version go1.27rc1 linux/amd64", True),
        ("go version go2.0 linux/amd64", True),
        ("go version go1.25.9 linux/amd64", False),
        ("go version go1.9.7 linux/amd64", False),
        ("", False),
    ],
)
def test_a_go_is_taken_when_it_is_new_enough(said, enough):
    assert new_enough(said, "1.26.0") is enough
