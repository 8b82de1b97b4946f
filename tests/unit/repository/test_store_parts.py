"""The parts of a push that need no store: the tree, its digests, sizes, tries, and URIs."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.errors import PreflightError, RepositoryError
from runbook_lib.files import list_files
from runbook_lib.repository import store_retry, store_tree
from runbook_lib.repository.manifest import LOCK, MANIFEST
from runbook_lib.repository.prefixes import beside_prefix
from runbook_lib.repository.store_retry import in_parallel, retried
from runbook_lib.repository.store_send import PART_BYTES, Progress, part_size
from runbook_lib.repository.store_tree import PLACEHOLDER, read_tree
from runbook_lib.repository.stores import open_store


@pytest.fixture(autouse=True)
def own_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store_tree, "WORTH_BYTES", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    (made / "a" / "1").mkdir(parents=True)
    (made / "a" / "config.pbtxt").write_text("x")
    (made / "a" / "1" / "model.py").write_text("y")
    return made


# -- the tree --------------------------------------------------------------------------------------


def test_a_tree_has_every_file_with_its_digest(folder: Path) -> None:
    assert read_tree(folder).files == list_files(folder)


def test_all_that_no_store_can_hold_is_told_at_once(folder: Path) -> None:
    (folder / "a" / "link").symlink_to("/etc/passwd")
    (folder / "a" / "outside").symlink_to("../../outside")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "tree").symlink_to(folder / "a")
    (folder / "a" / "back\\slash").write_text("x")
    (folder / "a" / "line\nbreak").write_text("x")
    os.mkfifo(folder / "a" / "pipe")
    (folder / "a" / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    (folder / MANIFEST).write_text("{}")
    (folder / LOCK).write_text("{}")
    with pytest.raises(RepositoryError, match="what a store can't") as refused:
        read_tree(folder)
    said = str(refused.value)
    for words in (
        "a/link is a symbolic",
        "a/outside is a symb",
        "dangling is a",
        "tree is a symbolic",
        "back\\\\slash",
        "line\\nbreak",
        "a/pipe is no regular",
        "caf\\xe9.txt is not UTF-8",
        MANIFEST,
        LOCK,
    ):
        assert words in said, words


def test_names_of_any_language_are_fine(folder: Path) -> None:
    (folder / "a" / "модель 模型 é.txt").write_text("x")
    assert "a/модель 模型 é.txt" in {file.path for file in read_tree(folder).files}


def test_folders_that_would_be_lost_get_a_placeholder_and_others_none(folder: Path) -> None:
    (folder / "e" / "1").mkdir(parents=True)
    (folder / "z" / "1").mkdir(parents=True)
    (folder / "z" / "1" / "touched").touch()
    (folder / "a" / "touched").touch()
    added = {file.path for file in read_tree(folder).files} - {f.path for f in list_files(folder)}
    assert added == {f"e/1/{PLACEHOLDER}", f"z/1/{PLACEHOLDER}"}


def test_a_digest_is_found_by_reading_once_and_then_by_the_files_times(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_tree, "RACY_NS", 0)
    time.sleep(0.05)
    first = read_tree(folder)
    reads: list[Path] = []
    real = store_tree.sha256_of
    monkeypatch.setattr(store_tree, "sha256_of", lambda path: reads.append(path) or real(path))
    assert read_tree(folder).files == first.files
    assert reads == []
    assert read_tree(folder, sure=True).files == first.files
    assert len(reads) == 2, "who must be sure reads all"
    (folder / "a" / "config.pbtxt").write_text("z")
    assert read_tree(folder).files == list_files(folder)
    assert reads[2:] == [folder / "a" / "config.pbtxt"]


def test_a_file_that_was_just_written_is_read_again_each_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_tree(folder)
    reads: list[Path] = []
    real = store_tree.sha256_of
    monkeypatch.setattr(store_tree, "sha256_of", lambda path: reads.append(path) or real(path))
    read_tree(folder)
    assert len(reads) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a/config.pbtxt": 1}'])
def test_a_memory_that_is_broken_is_made_again(folder: Path, text: str) -> None:
    read_tree(folder)
    (memory,) = (Path(os.environ["RUNBOOK_CACHE"]) / "digests").iterdir()
    memory.write_text(text)
    assert read_tree(folder).files == list_files(folder)


def test_what_is_soon_read_again_is_not_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_tree, "WORTH_BYTES", 3)
    read_tree(folder)
    assert not (Path(os.environ["RUNBOOK_CACHE"]) / "digests").exists()


def test_a_file_that_was_written_since_is_noticed(folder: Path) -> None:
    tree = read_tree(folder)
    file = next(one for one in tree.files if one.path == "a/config.pbtxt")
    assert not tree.has_changed(file)
    (folder / "a" / "config.pbtxt").write_text("!")
    assert tree.has_changed(file)


# -- sizes, progress, tries ------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 5 * 1024**4), st.sampled_from([10_000, 50_000, 1_000_000]))
def test_parts_cover_a_file_and_are_no_more_than_a_store_takes(size: int, most: int) -> None:
    part = part_size(size, most)
    assert part >= PART_BYTES
    assert part % (1024 * 1024) == 0
    assert -(-size // part) <= most


def test_progress_tells_rate_and_time_left() -> None:
    told: list[tuple[float, str]] = []
    progress = Progress(200_000_000, lambda share, line: told.append((share, line)))
    progress.began -= 2
    progress.add(100_000_000, "rank0.engine")
    share, line = told[-1]
    assert share == 0.5
    assert line == "rank0.engine  50 MB/s, 2 s left"
    progress.began -= 7200
    progress.add(1, "x")
    assert "2 h 0 min left" in told[-1][1]


def test_progress_of_nothing_is_whole_at_once() -> None:
    told: list[float] = []
    Progress(0, lambda share, _: told.append(share)).add(0, "")
    assert told == [1.0]


def test_what_passes_is_tried_again_and_what_does_not_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_retry, "FIRST_WAIT", 0.001)
    calls: list[int] = []

    def flaky() -> str:
        calls.append(1)
        if len(calls) < 4:
            raise ConnectionError
        return "there"

    assert retried(flaky, lambda _: 10.0) == "there"
    assert len(calls) == 4
    with pytest.raises(ConnectionError):
        retried(lambda: (_ for _ in ()).throw(ConnectionError), lambda _: 0.0)
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        retried(lambda: (_ for _ in ()).throw(ConnectionError), lambda _: 0.2)
    assert time.monotonic() - began < 2


def test_many_at_once_are_all_done_and_few_are_drawn_ahead() -> None:
    drawn: list[int] = []

    def calls():
        for number in range(100):
            drawn.append(number)
            yield lambda number=number: number

    results = in_parallel(calls(), threads=2)
    first = next(results)
    assert len(drawn) <= 6
    assert {first, *results} == set(range(100))


def test_the_first_error_ends_what_has_not_begun() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(in_parallel([fail, *(lambda: done.append(1) for _ in range(1000))], threads=1))
    assert len(done) < 5


# -- URIs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("/data/models/x", "file:///data/models/x/"),
        ("file:///data/models/x/", "file:///data/models/x/"),
        ("file:///data/a%20b", "file:///data/a b/"),
        ("gs://models/triton/x", "gs://models/triton/x/"),
        ("as://account/models/x", "as://account/models/x/"),
        ("https://account.blob.core.windows.net/models/x", "as://account/models/x/"),
        ("https://account.blob.core.chinacloudapi.cn/models/x/", "as://account/models/x/"),
    ],
)
def test_each_form_that_triton_and_kserve_take_names_a_store(uri: str, wanted: str) -> None:
    assert open_store(uri).uri == wanted


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("ftp://host/x", "The scheme is ftp"),
        ("https://example.com/models/x", "The scheme is https"),
        ("file:///", "no folder of its own"),
        ("gs://Bucket/x", "no usable bucket"),
        ("gs://bucket", "whole bucket"),
        ("gs://bucket/a b", "Triton can't read"),
        ("as://account/container", "whole bucket"),
        ("as://Account/container/x", "no Azure container"),
        ("as://account/c/x", "no Azure container"),
    ],
)
def test_a_uri_that_names_no_place_of_a_repository_is_refused(uri: str, words: str) -> None:
    with pytest.raises(RepositoryError) as refused:
        open_store(uri)
    assert words in str(refused.value)
    assert refused.value.fix


@pytest.mark.parametrize(
    ("uri", "library", "extra"),
    [
        ("gs://bucket/x", "google.cloud.storage", "gs"),
        ("as://account/container/x", "azure.storage.blob", "azure"),
    ],
)
def test_a_store_whose_library_is_missing_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, uri: str, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(PreflightError, match="not installed") as missing:
        open_store(uri)
    assert f'pip install "trtllm-runbooks[{extra}]"' in missing.value.fix


def test_what_waits_is_neither_below_a_prefix_nor_begins_like_it() -> None:
    for prefix, wanted in {
        "x/": ".runbook-incoming/x/",
        "a/b/x/": "a/b/.runbook-incoming/x/",
    }.items():
        assert beside_prefix(prefix) == wanted
        assert not wanted.startswith(prefix.rstrip("/"))
