"""Reading a stored folder back from a real object store, and what a build Job's program stores."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib.artifacts import canonical_json
from runbook_lib.engine.job import SCRIPTS
from runbook_lib.errors import RepositoryError, RunbookError
from runbook_lib.files import list_files
from runbook_lib.lab.s3 import ObjectStore
from runbook_lib.repository.fetch import fetch
from runbook_lib.repository.manifest import MANIFEST
from runbook_lib.repository.s3 import S3Access, open_client, parse_uri
from runbook_lib.repository.store import push, read_manifest
from runbook_lib.repository.store_verify import verify
from runbook_lib.repository.stores import open_store

INPUTS = "sha256:" + "ab" * 32


@pytest.fixture
def uri(request: pytest.FixtureRequest) -> str:
    """A prefix of the test's own."""
    return f"s3://models/{re.sub('[^a-z0-9]+', '-', request.node.name)[:80]}/"


@pytest.fixture
def pushed(folder: Path, uri: str, access: S3Access) -> str:
    (folder / "large").write_bytes(os.urandom(3_000_000))
    (folder / "empty").touch()
    push(folder, uri, credentials=access, create_bucket=True)
    return uri


def put(access: S3Access, uri: str, path: str, body: bytes) -> None:
    """Store an object by hand, past the library."""
    location = parse_uri(uri)
    open_client(access).put_object(Bucket=location.bucket, Key=location.key(path), Body=body)


def test_what_was_pushed_comes_back_as_it_was(
    folder: Path, pushed: str, access: S3Access, tmp_path: Path
) -> None:
    shares: list[float] = []
    done = fetch(
        pushed,
        tmp_path / "back",
        credentials=access,
        on_progress=lambda share, _: shares.append(share),
    )
    assert list_files(tmp_path / "back") == list_files(folder)
    assert done.bytes == sum(file.size for file in list_files(folder))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)


def test_a_second_fetch_reads_nothing(pushed: str, access: S3Access, tmp_path: Path) -> None:
    fetch(pushed, tmp_path / "back", credentials=access)
    again = fetch(pushed, tmp_path / "back", credentials=access)
    assert again.bytes == 0
    assert "already" in str(again)


def test_a_fetch_that_was_cut_leaves_nothing_in_place_and_goes_on_where_it_was(
    folder: Path,
    pushed: str,
    access: S3Access,
    tmp_path: Path,
) -> None:
    def cut(share: float, _: str) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(pushed, tmp_path / "back", credentials=access, on_progress=cut)
    assert not (tmp_path / "back").exists()
    rest = fetch(pushed, tmp_path / "back", credentials=access)
    assert 0 < rest.bytes < sum(file.size for file in list_files(folder)) * 0.7
    assert list_files(tmp_path / "back") == list_files(folder)
    assert sorted(path.name for path in tmp_path.iterdir() if "back" in path.name) == [
        ".back.fetch.lock",
        "back",
    ]


def test_a_beginning_that_is_not_the_file_s_own_is_found_out(
    pushed: str, access: S3Access, tmp_path: Path
) -> None:
    part = tmp_path / ".back.fetch"
    part.mkdir()
    (part / "large").write_bytes(b"another beginning")
    with pytest.raises(RepositoryError) as refused:
        fetch(pushed, tmp_path / "back", credentials=access)
    assert "large is not what its manifest says" in refused.value.what
    # It was dropped, so that the next try reads the file from its start.
    fetch(pushed, tmp_path / "back", credentials=access)


def test_an_object_that_was_changed_is_refused_and_nothing_is_put_in_place(
    pushed: str, access: S3Access, tmp_path: Path
) -> None:
    put(access, pushed, "large", os.urandom(3_000_000))
    with pytest.raises(RepositoryError, match="is not what its manifest says"):
        fetch(pushed, tmp_path / "back", credentials=access)
    assert not (tmp_path / "back").exists()


def test_an_object_that_is_gone_is_told(pushed: str, access: S3Access, tmp_path: Path) -> None:
    location = parse_uri(pushed)
    open_client(access).delete_object(Bucket=location.bucket, Key=location.key("large"))
    with pytest.raises(RunbookError, match="Reading"):
        fetch(pushed, tmp_path / "back", credentials=access)


def test_a_push_that_was_cut_is_no_content(pushed: str, access: S3Access, tmp_path: Path) -> None:
    location = parse_uri(pushed)
    open_client(access).delete_object(Bucket=location.bucket, Key=location.key(MANIFEST))
    with pytest.raises(RepositoryError, match="no whole repository"):
        fetch(pushed, tmp_path / "back", credentials=access)


def test_another_content_here_is_replaced_only_when_asked(
    folder: Path, pushed: str, access: S3Access, tmp_path: Path
) -> None:
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "thesis.tex").write_text("mine")
    with pytest.raises(RepositoryError, match="holds something else"):
        fetch(pushed, tmp_path / "back", credentials=access)
    assert (tmp_path / "back" / "thesis.tex").read_text() == "mine"
    fetch(pushed, tmp_path / "back", credentials=access, replace=True)
    assert list_files(tmp_path / "back") == list_files(folder)


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", "a//b"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(
    access: S3Access, tmp_path: Path, path: str, pushed: str
) -> None:
    row = {"path": path, "sha256": "0" * 64, "size": 1, "etag": ""}
    body = canonical_json({"version": 1, "digest": "sha256:0", "files": [row]})
    put(access, pushed, MANIFEST, body)
    with pytest.raises(RepositoryError, match="lies outside"):
        fetch(pushed, tmp_path / "deep" / "back", credentials=access)
    assert not list(tmp_path.rglob("outside"))


def test_what_can_t_be_written_is_told_with_its_name(
    pushed: str, access: S3Access, tmp_path: Path
) -> None:
    (tmp_path / ".back.fetch" / "large").mkdir(parents=True)
    with pytest.raises(RepositoryError) as refused:
        fetch(pushed, tmp_path / "back", credentials=access)
    assert "large could not be written" in refused.value.what
    assert not (tmp_path / "back").exists()


# -- the program that a build Job stores its engine with ------------------------------------------


def store(
    object_store: ObjectStore, work: Path, uri: str, *more: str, inputs: str = INPUTS
) -> subprocess.CompletedProcess[str]:
    """The program as the Job's container starts it."""
    keys = object_store.credentials
    environ = {
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": object_store.endpoint,
        "PATH": os.environ["PATH"],
    }
    program = [sys.executable, str(SCRIPTS / "store_engine.py"), "--work", str(work)]
    argv = [*program, "--result", uri, "--inputs", inputs, *more]
    return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def work(tmp_path: Path, access: S3Access) -> Path:
    engine = tmp_path / "work" / "engine"
    engine.mkdir(parents=True)
    (engine / "config.json").write_text("{}")
    (engine / "rank0.engine").write_bytes(os.urandom(100_000))
    open_store("s3://engines/x/", access).make_root()
    return tmp_path / "work"


@pytest.fixture
def result(request: pytest.FixtureRequest) -> str:
    return f"s3://engines/{re.sub('[^a-z0-9]+', '-', request.node.name)[:80]}/"


def test_what_the_job_stores_is_what_a_push_would_have_stored(
    object_store: ObjectStore, access: S3Access, work: Path, result: str, tmp_path: Path
) -> None:
    done = store(object_store, work, result)
    assert (done.returncode, "phase upload done" in done.stdout) == (0, True)
    assert read_manifest(result, credentials=access) == list_files(work / "engine")
    assert verify(work / "engine", result, credentials=access) == []
    # By a push of the same folder nothing would be sent.
    assert push(work / "engine", result, credentials=access).files == 0
    fetch(result, tmp_path / "back", credentials=access)
    receipt = json.loads((tmp_path / "back" / "receipt.json").read_text())
    assert receipt["inputs"] == INPUTS


def test_a_file_of_many_parts_is_stored_whole(
    object_store: ObjectStore, access: S3Access, work: Path, result: str
) -> None:
    with (work / "engine" / "rank0.engine").open("wb") as handle:
        handle.truncate(130 * 1024 * 1024)
    assert store(object_store, work, result).returncode == 0
    assert verify(work / "engine", result, credentials=access) == []


def test_an_upload_that_was_cut_is_no_engine_and_sends_only_the_rest(
    object_store: ObjectStore, access: S3Access, work: Path, result: str
) -> None:
    store(object_store, work, result)
    location = parse_uri(result)
    open_client(access).delete_object(Bucket=location.bucket, Key=location.key(MANIFEST))
    with pytest.raises(RepositoryError, match="no whole repository"):
        read_manifest(result, credentials=access)
    again = store(object_store, work, result)
    assert again.returncode == 0
    assert "storing rank0.engine" not in again.stdout
    assert verify(work / "engine", result, credentials=access) == []


def test_an_engine_of_the_same_inputs_is_kept_although_its_bytes_differ(
    object_store: ObjectStore, access: S3Access, work: Path, result: str
) -> None:
    store(object_store, work, result)
    before = read_manifest(result, credentials=access)
    (work / "engine" / "rank0.engine").write_bytes(os.urandom(100_000))
    done = store(object_store, work, result)
    assert (done.returncode, "it is kept" in done.stdout) == (0, True)
    assert read_manifest(result, credentials=access) == before


def test_a_rebuild_replaces_it_with_what_it_does_not_name_removed(
    object_store: ObjectStore, access: S3Access, work: Path, result: str
) -> None:
    (work / "engine" / "rank1.engine").write_bytes(b"old")
    store(object_store, work, result)
    (work / "engine" / "rank1.engine").unlink()
    (work / "engine" / "rank0.engine").write_bytes(os.urandom(100_000))
    assert store(object_store, work, result, "--replace").returncode == 0
    assert verify(work / "engine", result, credentials=access) == []


def test_a_prefix_of_another_engine_is_left_alone(
    object_store: ObjectStore, access: S3Access, work: Path, result: str
) -> None:
    store(object_store, work, result)
    before = read_manifest(result, credentials=access)
    other = store(object_store, work, result, inputs="sha256:" + "cd" * 32)
    assert (other.returncode, "another content" in other.stdout) == (1, True)
    assert read_manifest(result, credentials=access) == before


def test_a_build_without_an_engine_stores_nothing(
    object_store: ObjectStore, access: S3Access, work: Path, result: str
) -> None:
    (work / "engine" / "config.json").unlink()
    done = store(object_store, work, result)
    assert (done.returncode, "without an engine" in done.stdout) == (1, True)
    with pytest.raises(RepositoryError):
        read_manifest(result, credentials=access)


def test_a_bucket_that_is_missing_is_told_in_the_store_s_words(
    object_store: ObjectStore, work: Path
) -> None:
    done = store(object_store, work, "s3://no-such-bucket/x/")
    assert (done.returncode, "NoSuchBucket" in done.stdout) == (1, True)
