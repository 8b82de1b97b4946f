"""A real object store and the repository that is pushed to it."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook_lib.lab.s3 import ObjectStore, start_s3
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.skeleton import skeleton
from runbook_lib.serving.supervise import Owner, stop


@pytest.fixture(scope="module")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    store = start_s3(tmp_path_factory.mktemp("s3"), Owner.this_process())
    yield store
    stop(store.running)


@pytest.fixture(scope="module")
def access(object_store: ObjectStore) -> S3Access:
    keys = object_store.credentials
    return S3Access(object_store.endpoint, keys.access_key, keys.secret_key)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    skeleton(tmp_path / "models")
    return tmp_path / "models"


@dataclass(frozen=True)
class Place:
    """A location of one of the four stores, of one test's own."""

    kind: str
    uri: str
    credentials: S3Access | None


@pytest.fixture(params=["file", "s3", "gs", "azure"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The same test runs against each kind of store, and each is a real one."""
    name = "".join(one if one.isalnum() else "-" for one in request.node.name)[:60].strip("-")
    if request.param == "file":
        return Place("file", f"file://{tmp_path}/store/{name}/", None)
    if request.param == "s3":
        return Place("s3", f"s3://models/{name}/", request.getfixturevalue("access"))
    if request.param == "gs":
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("google"))
        return Place("gs", f"gs://models/{name}/", None)
    for variable, value in request.getfixturevalue("azurite_variables")().items():
        monkeypatch.setenv(variable, value)
    return Place("azure", f"as://{AZURITE_ACCOUNT}/models/{name}/", None)


SERVERS = Path(__file__).resolve().parents[3] / ".cache" / "servers"
AZURITE_ACCOUNT = "devstoreaccount1"
# Azurite's own, printed in its manual: it has no other.
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


@pytest.fixture
def azurite_variables(azurite: str) -> Callable[..., dict[str, str]]:
    """What points Azure's tools at Azurite, also at another port or with another key."""

    def variables(endpoint: str = azurite, key: str = AZURITE_KEY) -> dict[str, str]:
        account = f"AccountName={AZURITE_ACCOUNT};AccountKey={key}"
        where = f"BlobEndpoint={endpoint}/{AZURITE_ACCOUNT};"
        said = f"DefaultEndpointsProtocol=http;{account};{where}"
        return {"AZURE_STORAGE_CONNECTION_STRING": said}

    return variables


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a store answers that speaks as Google's does."""
    program = installed("fake-gcs-server-*/fake-gcs-server")
    port, folder = free_port(), tmp_path_factory.mktemp("google")
    argv = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    argv += ["-backend", "filesystem", "-filesystem-root", str(folder / "objects")]
    with serving([*argv, "-public-host", f"127.0.0.1:{port}"], port, folder):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a store answers that speaks as Azure's does."""
    program = installed("azurite-*/node_modules/.bin/azurite-blob")
    port, folder = free_port(), tmp_path_factory.mktemp("azurite")
    argv = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--silent"]
    argv += ["--location", str(folder), "--skipApiVersionCheck", "--disableTelemetry"]
    with serving(argv, port, folder):
        yield f"http://127.0.0.1:{port}"


def installed(pattern: str) -> str:
    found = sorted(SERVERS.glob(pattern))
    if not found:
        pytest.skip(f"no {pattern.partition('-*')[0]}: get it with .ci/setup tests")
    return str(found[-1])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def serving(argv: list[str], port: int, folder: Path) -> Iterator[None]:
    """A server that runs while the block does."""
    log = folder / "server.log"
    with log.open("wb") as handle:
        server = subprocess.Popen(argv, cwd=folder, stdout=handle, stderr=handle)
    try:
        until = time.monotonic() + 60
        while not answers(port):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()


def answers(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 20 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)])
    if made.returncode:
        pytest.skip("only root can make a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
