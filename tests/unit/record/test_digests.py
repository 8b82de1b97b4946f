import json

import pytest

from runbook_lib.errors import RecordError
from runbook_lib.record.digests import MANIFEST, verify_folder, write_manifest


@pytest.fixture
def record(tmp_path):
    folder = tmp_path / "record"
    (folder / "data").mkdir(parents=True)
    (folder / "page.ipynb").write_text("{}")
    (folder / "data" / "rows.csv").write_text("a,b\n")
    write_manifest(folder)
    return folder


def found(record):
    return [str(problem) for problem in verify_folder(record)]


def test_an_untouched_record_has_no_problem(record):
    assert found(record) == []


def test_each_change_is_named(record):
    (record / "page.ipynb").write_text("[]")
    (record / "data" / "rows.csv").write_text("a,b\n1,2\n")
    (record / "data" / "more.csv").write_text("")
    assert found(record) == [
        "added: data/more.csv",
        "changed: data/rows.csv (4 bytes were recorded, 8 are there)",
        "changed: page.ipynb (same size, other bytes)",
    ]


def test_a_missing_file_is_named(record):
    (record / "page.ipynb").unlink()
    assert found(record) == ["missing: page.ipynb"]


def test_a_symbolic_link_is_named_also_where_it_stands_for_a_file(record, tmp_path):
    (tmp_path / "elsewhere").write_text("{}")
    (record / "page.ipynb").unlink()
    (record / "page.ipynb").symlink_to(tmp_path / "elsewhere")
    (record / "data" / "up").symlink_to("..")
    assert found(record) == [
        "added: data/up (there is a symbolic link)",
        "missing: page.ipynb (there is a symbolic link)",
    ]


def test_no_digests_are_written_for_a_record_with_a_link(record):
    (record / "link").symlink_to("page.ipynb")
    with pytest.raises(RecordError, match="symbolic link: link") as caught:
        write_manifest(record)
    assert "Copy the file" in caught.value.fix


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"files": []}', '{"files": {"a": 3}}', '{"files": {'], ids=repr
)
def test_digests_that_were_cut_or_changed_are_told(record, text):
    (record / MANIFEST).write_text(text)
    with pytest.raises(RecordError, match="can't be read") as caught:
        verify_folder(record)
    assert caught.value.why
    assert caught.value.fix


def test_a_record_without_digests_did_not_reach_its_end(record):
    (record / MANIFEST).unlink()
    with pytest.raises(RecordError, match=r"has no digests\.json") as caught:
        verify_folder(record)
    assert "did not reach its end" in caught.value.why


def test_the_digests_are_everybodys(record):
    told = json.loads((record / MANIFEST).read_text())["files"]
    sha = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert told["page.ipynb"] == {"sha256": sha, "size": 2}
    assert list(told) == ["data/rows.csv", "page.ipynb"]
