"""Push and verify against a real object store, also one that is killed or full."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.errors import RepositoryError, ServiceError
from runbook_lib.files import list_files, sha256_of
from runbook_lib.lab import environment
from runbook_lib.lab.s3 import ObjectStore, start_s3
from runbook_lib.repository import store_send
from runbook_lib.repository.manifest import MANIFEST
from runbook_lib.repository.s3 import S3Access, open_client, triton_uri
from runbook_lib.repository.store import push, read_manifest
from runbook_lib.repository.store_verify import verify
from runbook_lib.serving.supervise import Owner, stop
from runbook_lib.serving.triton import generate, start_triton

CODE = "tokenizer/1/model.py"


@pytest.fixture
def uri(request: pytest.FixtureRequest) -> str:
    """A prefix of the test's own."""
    return f"s3://models/{request.node.name[:60].replace('[', '-').replace(']', '')}/"


@pytest.fixture
def pushed(folder: Path, uri: str, access: S3Access) -> str:
    push(folder, uri, credentials=access, create_bucket=True)
    return uri


def put(access: S3Access, uri: str, path: str, body: bytes) -> None:
    """Store an object by hand, past the library."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    open_client(access).put_object(Bucket=bucket, Key=prefix + path, Body=body)


def problems(folder: Path, uri: str, access: S3Access) -> list[tuple[str, str]]:
    return [(one.kind, one.path) for one in verify(folder, uri, credentials=access)]


def access_to(store: ObjectStore) -> S3Access:
    return S3Access(store.endpoint, store.credentials.access_key, store.credentials.secret_key)


# -- the plain way ---------------------------------------------------------------------------------


def test_what_was_pushed_is_verified_and_served_by_triton(
    folder: Path, pushed: str, access: S3Access, object_store: ObjectStore, tmp_path: Path
) -> None:
    assert verify(folder, pushed, credentials=access) == []
    server, _ = start_triton(
        environment.ensure().triton,
        triton_uri(pushed, access),
        tmp_path,
        credentials=object_store.credentials,
        owner=Owner.this_process(),
    )
    try:
        answer = generate(server.facts["http"], "ensemble", "stored and served", max_tokens=6)
    finally:
        stop(server)
    assert (answer["text_output"], answer["output_lengths"]) == ("stored", 6)


def test_a_second_push_sends_nothing(folder: Path, pushed: str, access: S3Access) -> None:
    again = push(folder, pushed, credentials=access)
    assert (again.files, again.bytes, again.skipped) == (0, 0, len(list_files(folder)))
    assert "holds all 6 files already" in str(again)


def test_the_manifest_names_every_file_with_its_digest(
    folder: Path, pushed: str, access: S3Access
) -> None:
    assert read_manifest(pushed, credentials=access) == list_files(folder)


def test_a_file_of_many_parts_comes_back_whole(
    folder: Path, uri: str, access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_send, "PART_BYTES", 5 * 1024 * 1024)
    (folder / "tokenizer" / "1" / "rank0.engine").write_bytes(os.urandom(26_000_000))
    seen: list[float] = []
    result = push(
        folder,
        uri,
        credentials=access,
        create_bucket=True,
        on_progress=lambda share, _: seen.append(share),
    )
    assert verify(folder, uri, credentials=access) == []
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len([share for share in seen if 0.1 < share < 1]) > 1, "a large file shows its progress"
    assert result.bytes == sum(file.size for file in list_files(folder))


def test_an_empty_file_is_stored_too(folder: Path, uri: str, access: S3Access) -> None:
    (folder / "ensemble" / "1" / "empty").touch()
    push(folder, uri, credentials=access, create_bucket=True)
    assert verify(folder, uri, credentials=access) == []


def test_a_neighbour_whose_prefix_starts_alike_is_left_alone(
    folder: Path, pushed: str, access: S3Access
) -> None:
    beside = pushed.rstrip("/") + "-v2/"
    push(folder, beside, credentials=access)
    (folder / CODE).write_text("changed\n")
    push(folder, pushed, credentials=access, replace=True)
    assert problems(folder, pushed, access) == []
    assert ("changed", CODE) in problems(folder, beside, access)


def test_a_store_on_this_machine_is_reached_past_the_networks_proxy(
    folder: Path, pushed: str, access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert verify(folder, pushed, credentials=access) == []


# -- another content -------------------------------------------------------------------------------


def test_another_content_is_refused_by_both_digests_and_replaced_when_asked(
    folder: Path, pushed: str, access: S3Access
) -> None:
    before = push(folder, pushed, credentials=access).digest
    (folder / CODE).write_text("changed\n")
    (folder / "tokenizer" / "config.pbtxt").unlink()
    with pytest.raises(RepositoryError, match="holds another content") as refused:
        push(folder, pushed, credentials=access)
    assert before in refused.value.why
    result = push(folder, pushed, credentials=access, replace=True)
    assert result.digest in refused.value.why
    assert (result.files, result.removed) == (1, 1)
    assert verify(folder, pushed, credentials=access) == []


def test_a_changed_byte_is_found_and_a_second_push_mends_it(
    folder: Path, pushed: str, access: S3Access
) -> None:
    data = bytearray((folder / CODE).read_bytes())
    data[10] ^= 1
    put(access, pushed, CODE, bytes(data))
    assert problems(folder, pushed, access) == [("changed", CODE)]
    assert push(folder, pushed, credentials=access).files == 1
    assert verify(folder, pushed, credentials=access) == []


def test_an_object_that_nobody_pushed_is_found_and_removed_only_when_asked(
    folder: Path, pushed: str, access: S3Access
) -> None:
    put(access, pushed, "stray/config.pbtxt", b"x")
    assert problems(folder, pushed, access) == [("extra", "stray/config.pbtxt")]
    with pytest.raises(RepositoryError, match="another content") as refused:
        push(folder, pushed, credentials=access)
    assert "stray/config.pbtxt" in refused.value.why
    assert push(folder, pushed, credentials=access, replace=True).removed == 1
    assert verify(folder, pushed, credentials=access) == []


def test_a_lost_object_is_found_and_sent_again(folder: Path, pushed: str, access: S3Access) -> None:
    bucket, _, prefix = pushed.removeprefix("s3://").partition("/")
    open_client(access).delete_object(Bucket=bucket, Key=prefix + CODE)
    assert problems(folder, pushed, access) == [("missing", CODE)]
    assert push(folder, pushed, credentials=access).files == 1
    assert verify(folder, pushed, credentials=access) == []


def test_a_file_that_changes_while_it_is_pushed_is_refused(
    folder: Path, uri: str, access: S3Access
) -> None:
    def meddle(_share: float, _path: str) -> None:
        (folder / CODE).write_text("somebody else writes\n")

    with pytest.raises(RepositoryError, match="changed while it was being pushed"):
        push(folder, uri, credentials=access, create_bucket=True, on_progress=meddle)
    assert ("unfinished", MANIFEST) in problems(folder, uri, access)


# -- a store that fails ----------------------------------------------------------------------------


def test_a_push_cut_by_a_killed_server_is_unfinished_and_goes_on_where_it_was(
    folder: Path, tmp_path: Path
) -> None:
    for number in range(8):
        (folder / "tokenizer" / "1" / f"part{number}.bin").write_bytes(os.urandom(300_000))
    store = start_s3(tmp_path / "s3", Owner.this_process())
    uri = "s3://models/cut/"

    def kill(share: float, _path: str) -> None:
        if share > 0.5 and store.running.alive():
            os.kill(store.running.server.pid, signal.SIGKILL)

    try:
        with pytest.raises(ServiceError, match="does not answer") as cut:
            push(folder, uri, credentials=access_to(store), create_bucket=True, on_progress=kill)
        assert "goes on where it was cut" in cut.value.fix
        store = start_s3(tmp_path / "s3", Owner.this_process())
        access = access_to(store)
        found = {one.kind for one in verify(folder, uri, credentials=access)}
        assert found == {"unfinished", "missing"}
        with pytest.raises(RepositoryError, match="no whole repository"):
            read_manifest(uri, credentials=access)
        rest = push(folder, uri, credentials=access)
        assert rest.skipped >= 3
        assert rest.files + rest.skipped == len(list_files(folder))
        assert verify(folder, uri, credentials=access) == []
    finally:
        stop(store.running)


def test_a_replacing_push_that_is_cut_leaves_the_content_before_as_it_was(
    folder: Path, pushed: str, access: S3Access, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "before")
    (folder / CODE).write_text("changed\n")

    def cut(share: float, _path: str) -> None:
        if share > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push(folder, pushed, credentials=access, replace=True, on_progress=cut)
    assert verify(tmp_path / "before", pushed, credentials=access) == []
    push(folder, pushed, credentials=access, replace=True)
    assert verify(folder, pushed, credentials=access) == []


def test_a_full_disk_is_told_and_leaves_no_manifest(folder: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(disk)])
    if made.returncode:
        pytest.skip("only root can make a small disk")
    try:
        store = start_s3(disk / "s3", Owner.this_process())
        try:
            (folder / "tokenizer" / "1" / "large.bin").write_bytes(os.urandom(120_000_000))
            with pytest.raises((RepositoryError, ServiceError), match="Pushing to") as full:
                push(folder, "s3://models/full/", credentials=access_to(store), create_bucket=True)
            assert "disk space" in full.value.fix
            with pytest.raises(RepositoryError, match="no whole repository"):
                read_manifest("s3://models/full/", credentials=access_to(store))
        finally:
            stop(store.running)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
def test_wrong_keys_are_named_and_never_shown(
    folder: Path, uri: str, access: S3Access, wrong: str
) -> None:
    with pytest.raises(RepositoryError, match="Pushing to") as refused:
        push(folder, uri, credentials=replace(access, **{wrong: "AKIAWRONGWRONG"}))
    assert "AWS_SECRET_ACCESS_KEY" in refused.value.fix
    assert access.secret_key not in str(refused.value)
    with pytest.raises(RepositoryError, match="Reading"):
        verify(folder, uri, credentials=replace(access, **{wrong: "AKIAWRONGWRONG"}))


def test_a_missing_bucket_is_named_and_created_only_when_asked(
    folder: Path, access: S3Access
) -> None:
    with pytest.raises(RepositoryError, match="failed") as refused:
        push(folder, "s3://nobody-made-it/x/", credentials=access)
    assert "has no bucket nobody-made-it" in refused.value.why
    found = verify(folder, "s3://nobody-made-it/x/", credentials=access)
    assert {one.kind for one in found} == {"missing"}
    assert "no such bucket" in str(found[0])


@pytest.fixture
def silent() -> Any:
    """An endpoint that takes no connection: its backlog is full, so a new one hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        held = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            held.append(one)
        yield f"http://127.0.0.1:{port}"
        for one in held:
            one.close()


def test_a_dead_endpoint_is_told_within_seconds(
    folder: Path, uri: str, access: S3Access, silent: str
) -> None:
    for endpoint in ("http://127.0.0.1:9", silent):
        began = time.monotonic()
        with pytest.raises(ServiceError, match="does not answer") as dead:
            push(folder, uri, credentials=replace(access, endpoint=endpoint))
        assert time.monotonic() - began < 15
        assert endpoint in dead.value.why


# -- a folder that can't be pushed -----------------------------------------------------------------


def test_a_symbolic_link_is_refused_before_anything_is_sent(
    folder: Path, uri: str, access: S3Access
) -> None:
    (folder / "tokenizer" / "1" / "linked.json").symlink_to(folder / CODE)
    with pytest.raises(RepositoryError, match="symbolic link"):
        push(folder, uri, credentials=access)


def test_a_folder_without_files_is_refused(tmp_path: Path, uri: str, access: S3Access) -> None:
    with pytest.raises(RepositoryError, match="holds no files"):
        push(tmp_path, uri, credentials=access)
    with pytest.raises(RepositoryError, match="is not a folder"):
        push(tmp_path / "absent", uri, credentials=access)


def test_the_digest_that_is_verified_is_the_files_own(folder: Path) -> None:
    assert {file.sha256 for file in list_files(folder)} >= {sha256_of(folder / CODE)}
