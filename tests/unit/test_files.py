import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.artifacts import StoredFile
from runbook_lib.files import content_digest, list_files, whole_folder, write_whole


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_after_writing(path):
    path.write_text("new")
    raise RuntimeError


def test_a_folder_is_listed_by_posix_path_without_links(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two").write_text("2")
    (tmp_path / "one").write_text("1")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert [(file.path, file.size) for file in list_files(tmp_path)] == [("b/two", 1), ("one", 1)]


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5), st.randoms())
def test_the_digest_of_a_folder_does_not_depend_on_order(contents, shuffler):
    files = [StoredFile(path=name, sha256=text, size=0) for name, text in contents.items()]
    again = files.copy()
    shuffler.shuffle(again)
    assert content_digest(files) == content_digest(again)


def test_a_renamed_file_changes_the_digest_of_its_folder():
    one = [StoredFile(path="a", sha256="0", size=1)]
    other = [StoredFile(path="b", sha256="0", size=1)]
    assert content_digest(one) != content_digest(other)


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path):
    target = tmp_path / "out"
    with whole_folder(target) as work:
        (work / "file").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(target) as work:
        fail_after_writing(work / "file")
    assert (target / "file").read_text() == "old"
    assert names_in(tmp_path) == ["out"]


def test_a_file_that_can_not_be_written_leaves_the_old_one(tmp_path):
    target = tmp_path / "file"
    write_whole(target, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(target, "\ud800")
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["file"]
