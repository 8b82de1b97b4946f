"""Evidence as one file: what went in comes out, but for secrets; nothing else is taken for one."""

import io
import json
import tarfile

import pytest

from runbook_lib.diagnose.bundle import is_bundle, read_bundle, write_bundle
from runbook_lib.diagnose.evidence import Evidence, Line
from runbook_lib.diagnose.judge import diagnose
from runbook_lib.diagnose.reading import from_text
from runbook_lib.errors import DiagnosisError

TAG = "E0116 Version tag does not match."


def test_a_colleague_finds_the_same_cause(tmp_path):
    evidence = from_text("server.log", f"{TAG}\nother")
    manifest = write_bundle(evidence, tmp_path / "out.tgz")
    assert manifest == ["server.log: 2 lines, 2 kept"]
    assert read_bundle(tmp_path / "out.tgz") == evidence
    assert diagnose(read_bundle(tmp_path / "out.tgz")) == diagnose(evidence)


def test_everything_that_was_collected_comes_back(tmp_path):
    named = diagnose(from_text("log", TAG)).findings
    evidence = Evidence(
        (Line("log", "x", 3),), ({"name": "m"},), ({"s": 1},), {"g": 2.5}, {"log": "read"}, named
    )
    write_bundle(evidence, tmp_path / "out.tgz")
    assert read_bundle(tmp_path / "out.tgz") == evidence


def test_secrets_stay_behind(tmp_path):
    evidence = Evidence(
        lines=(Line("log", "password=hunter2hunter2", 1),),
        models=({"reason": "https://user:hunter2hunter2@store"},),
    )
    write_bundle(evidence, tmp_path / "out.tgz")
    with tarfile.open(tmp_path / "out.tgz") as tar:
        for member in tar.getmembers():
            assert b"hunter2" not in tar.extractfile(member).read()


@pytest.mark.parametrize("name", ["a.tgz", "b.tar.gz"])
def test_a_bundle_is_known_by_its_name(name, tmp_path):
    assert is_bundle(tmp_path / name)
    assert not is_bundle(tmp_path / "server.log")


def packed(path, content, name="evidence.json"):
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        json.dumps({"format": 2}).encode(),
        json.dumps({"format": 1, "lines": [{"x": 1}]}).encode(),
        json.dumps({"format": 1, "lines": 3}).encode(),
        b"[" * 100_000,
    ],
)
def test_what_is_no_evidence_is_refused_with_words(content, tmp_path):
    packed(tmp_path / "bad.tgz", content)
    with pytest.raises(DiagnosisError, match="is no bundle of evidence"):
        read_bundle(tmp_path / "bad.tgz")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08broken"])
def test_what_is_no_archive_is_refused_with_words(content, tmp_path):
    (tmp_path / "bad.tgz").write_bytes(content)
    with pytest.raises(DiagnosisError):
        read_bundle(tmp_path / "bad.tgz")


def test_another_archive_is_refused_and_nothing_of_it_is_unpacked(tmp_path):
    packed(tmp_path / "bad.tgz", b"x", name="../../escaped")
    with pytest.raises(DiagnosisError):
        read_bundle(tmp_path / "bad.tgz")
    assert not (tmp_path.parent.parent / "escaped").exists()
