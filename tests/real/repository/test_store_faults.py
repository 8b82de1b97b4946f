"""What goes wrong between a push and its store, each shown by a real server where one can be made to."""

from __future__ import annotations

import datetime as dt
import http.server
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.errors import NotStoredError, RepositoryError, RunbookError, ServiceError
from runbook_lib.files import list_files
from runbook_lib.lab.s3 import ObjectStore
from runbook_lib.repository.fetch import fetch
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store import push, read_manifest
from runbook_lib.repository.store_send import PART_BYTES
from runbook_lib.repository.store_verify import verify

CODE = "tokenizer/1/model.py"
PUSH = """
import sys
from pathlib import Path
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store import push, read_manifest
push(Path(sys.argv[1]), sys.argv[2], credentials=S3Access.from_environment(), create_bucket=True,
     on_progress=lambda share, line: print(share, flush=True))
"""


@pytest.fixture
def uri(request: pytest.FixtureRequest) -> str:
    name = "".join(one if one.isalnum() else "-" for one in request.node.name)[:60]
    return f"s3://models/{name}/"


# -- the disk, the machine and the network -------------------------------------------------------------------


def test_bytes_that_rot_on_the_stores_own_disk_are_never_taken_as_whole(
    folder: Path, object_store: ObjectStore, access: S3Access, tmp_path: Path
) -> None:
    mark = os.urandom(64)
    (folder / "tokenizer" / "1" / "rotten.bin").write_bytes(os.urandom(100_000) + mark)
    push(folder, "s3://models/rotten/", credentials=access, create_bucket=True)
    volumes = (object_store.running.log.parent / "s3-data").glob("*.dat")
    flipped = [flip(path, mark) for path in volumes]
    assert sum(flipped) == 1
    found = verify(folder, "s3://models/rotten/", credentials=access)
    assert [(one.kind, one.path) for one in found] == [("unreadable", "tokenizer/1/rotten.bin")]
    with pytest.raises(RunbookError):
        fetch("s3://models/rotten/", tmp_path / "back", credentials=access)
    assert not (tmp_path / "back").exists()


def flip(path: Path, mark: bytes) -> int:
    data = bytearray(path.read_bytes())
    at = data.find(mark)
    if at < 0:
        return 0
    with path.open("r+b") as handle:
        handle.seek(at)
        handle.write(bytes([data[at] ^ 1]))
    return 1


def test_a_push_that_is_killed_in_a_large_file_sends_only_the_rest_of_it(
    folder: Path, uri: str, object_store: ObjectStore, access: S3Access, tmp_path: Path
) -> None:
    (folder / "tokenizer" / "1" / "rank0.engine").write_bytes(os.urandom(16 * PART_BYTES))
    environ = {**os.environ, **object_store.credentials.environment()}
    environ["AWS_ENDPOINT_URL"] = object_store.endpoint
    argv = [sys.executable, "-c", PUSH, str(folder), uri]
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if float(line) > 0.3:
                process.send_signal(signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL
    with counted(object_store.endpoint) as (endpoint, sent):
        push(folder, uri, credentials=replace(access, endpoint=endpoint))
    whole = sum(file.size for file in list_files(folder))
    assert sum(sent) < 0.8 * whole
    assert verify(folder, uri, credentials=access) == []


def test_a_network_that_cuts_connections_is_outlasted(
    folder: Path, uri: str, object_store: ObjectStore, access: S3Access, tmp_path: Path
) -> None:
    (folder / "tokenizer" / "1" / "rank0.engine").write_bytes(os.urandom(2 * PART_BYTES))
    with counted(object_store.endpoint, cut_first=4) as (endpoint, _):
        push(folder, uri, credentials=replace(access, endpoint=endpoint), create_bucket=True)
    assert verify(folder, uri, credentials=access) == []
    with counted(object_store.endpoint, cut_first=3, cut_answers=True) as (endpoint, _):
        fetch(uri, tmp_path / "back", credentials=replace(access, endpoint=endpoint))
    assert list_files(tmp_path / "back") == list_files(folder)


@contextmanager
def counted(
    endpoint: str, *, cut_first: int = 0, cut_answers: bool = False
) -> Iterator[tuple[str, list[int]]]:
    """A way to a server that counts the bytes sent, and cuts the first connections in their midst."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    sent: list[int] = []

    def carry(
        source: socket.socket, target: socket.socket, limit: float, passed: list[int]
    ) -> None:
        come = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed.append(len(data))
                come += len(data)
                if come > limit:
                    break
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def pass_on(client: socket.socket, number: int) -> None:
        limit = 100_000 if number < cut_first else float("inf")
        up, down = (float("inf"), limit) if cut_answers else (limit, float("inf"))
        with client, socket.create_connection((host, int(port))) as server:
            back = threading.Thread(target=carry, args=(server, client, down, []))
            back.start()
            carry(client, server, up, sent)
            back.join()

    def serve(listener: socket.socket) -> None:
        for number in itertools.count():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=pass_on, args=(client, number), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", sent
        listener.shutdown(socket.SHUT_RDWR)


# -- what a store says no to -----------------------------------------------------------------------


def refused(folder: Path, access: S3Access, uri: str = "s3://models/never/") -> RunbookError:
    with pytest.raises(RunbookError) as error:
        push(folder, uri, credentials=access)
    return error.value


def test_a_clock_that_is_wrong_is_named(
    folder: Path, access: S3Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore import auth

    def an_hour_ago() -> dt.datetime:
        return dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)

    monkeypatch.setattr(auth, "get_current_datetime", an_hour_ago)
    assert "clock" in refused(folder, access).fix


def test_a_store_that_refuses_is_told_apart_from_one_that_holds_nothing(access: S3Access) -> None:
    for uri in ("s3://models/nothing-here/", "s3://no-such-bucket-here/x/"):
        with pytest.raises(NotStoredError):
            read_manifest(uri, credentials=access)
    with pytest.raises(RepositoryError) as error:
        read_manifest("s3://models/x/", credentials=replace(access, secret_key="wrong"))
    assert not isinstance(error.value, NotStoredError)
    assert "AWS_SECRET_ACCESS_KEY" in error.value.fix


def test_https_to_a_plain_port_is_told_as_tls(folder: Path, access: S3Access) -> None:
    endpoint = access.endpoint.replace("http://", "https://")
    began = time.monotonic()
    error = refused(folder, replace(access, endpoint=endpoint))
    assert isinstance(error, ServiceError)
    assert "no TLS" in error.what
    assert "http://" in error.fix
    assert time.monotonic() - began < 5


def test_a_server_that_is_no_object_store_is_told(
    folder: Path, access: S3Access, object_store: ObjectStore
) -> None:
    master = object_store.running.facts["master"]
    error = refused(folder, replace(access, endpoint=master))
    assert master in str(error)
    assert "S3 endpoint" in error.fix


def test_a_name_that_does_not_resolve_is_told(folder: Path, access: S3Access) -> None:
    error = refused(folder, replace(access, endpoint="http://no-such-host.invalid:9000"))
    assert isinstance(error, ServiceError)
    assert "no-such-host.invalid" in error.why
    assert "endpoint is right" in error.fix


@contextmanager
def saying(status: int, code: str) -> Iterator[tuple[str, list[str]]]:
    """A server that answers each request with one refusal of AWS, in AWS's form."""
    asked: list[str] = []
    region = "<Region>eu-west-1</Region>"

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = f"<Error><Code>{code}</Code><Message>said so</Message>{region}</Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (301, "PermanentRedirect", "export AWS_REGION=eu-west-1"),
        (400, "AuthorizationHeaderMalformed", "another region than us-east-1"),
        (403, "AccessDenied", "the key's right to s3://models/never/"),
        (403, "RequestTimeTooSkewed", "clock is wrong"),
        (403, "SignatureDoesNotMatch", "the store does not take them"),
        (400, "ExpiredToken", "the store does not take them"),
        (404, "NoSuchBucket", "aws s3 mb s3://models"),
        (418, "Teapot", "Read the store's words"),
    ],
)
def test_each_refusal_of_aws_is_told_with_what_to_do(
    folder: Path, access: S3Access, status: int, code: str, words: str
) -> None:
    with saying(status, code) as (endpoint, asked):
        error = refused(folder, replace(access, endpoint=endpoint))
    assert isinstance(error, RepositoryError)
    assert words in error.fix
    assert len(asked) == 1, "what can't pass is not asked again"


def test_a_store_that_fails_inside_is_asked_again_and_then_told(
    folder: Path, access: S3Access
) -> None:
    with saying(500, "InternalError") as (endpoint, asked):
        error = refused(folder, replace(access, endpoint=endpoint))
    assert "disk space" in error.fix
    assert len(asked) > 2


# -- the other stores ------------------------------------------------------------------------------


def test_google_names_a_bucket_that_is_missing(
    folder: Path, google: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
    with pytest.raises(RepositoryError, match="failed") as error:
        push(folder, "gs://nobody-made-it/x/")
    assert "gcloud storage buckets create gs://nobody-made-it" in error.value.fix
    found = verify(folder, "gs://nobody-made-it/x/")
    assert {one.kind for one in found} == {"missing"}


def test_google_without_credentials_says_how_to_log_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(RepositoryError, match="no credentials") as error:
        push(folder, "gs://bucket/x/")
    assert "gcloud auth application-default login" in error.value.fix


def test_azure_names_a_container_that_is_missing_and_a_key_that_is_wrong(
    folder: Path,
    azurite: str,
    azurite_variables: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in azurite_variables().items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RepositoryError, match="failed") as error:
        push(folder, "as://devstoreaccount1/nobody-made-it/x/")
    assert "az storage container create -n nobody-made-it" in error.value.fix
    for name, value in azurite_variables(key="d3Jvbmc=").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RepositoryError, match="failed") as error:
        push(folder, "as://devstoreaccount1/models/x/")
    assert "key or SAS token" in error.value.fix
    assert "d3Jvbmc=" not in str(error.value)


@pytest.mark.parametrize("kind", ["gs", "azure"])
def test_another_store_that_is_gone_is_told_within_seconds(
    folder: Path,
    kind: str,
    azurite_variables: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    for name, value in azurite_variables(endpoint="http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    uri = "gs://models/x/" if kind == "gs" else "as://devstoreaccount1/models/x/"
    began = time.monotonic()
    with pytest.raises(ServiceError, match="does not answer") as error:
        push(folder, uri)
    assert time.monotonic() - began < 15
    assert "goes on where it was cut" in error.value.fix


# -- many files ------------------------------------------------------------------------------------


def test_thousands_of_small_files_are_pushed_proved_and_pulled(
    uri: str, access: S3Access, tmp_path: Path
) -> None:
    for number in range(800):
        path = tmp_path / "many" / f"model{number % 20}" / "1" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    assert push(tmp_path / "many", uri, credentials=access, create_bucket=True).files == 800
    assert verify(tmp_path / "many", uri, credentials=access) == []
    assert push(tmp_path / "many", uri, credentials=access).files == 0
    fetch(uri, tmp_path / "back", credentials=access)
    assert list_files(tmp_path / "back") == list_files(tmp_path / "many")
