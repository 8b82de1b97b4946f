"""What was pushed is what the real readers find: Triton itself, and KServe's own downloader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.files import list_files
from runbook_lib.lab import environment
from runbook_lib.lab.s3 import ObjectStore
from runbook_lib.repository.manifest import MANIFEST
from runbook_lib.repository.s3 import S3Access
from runbook_lib.repository.store import push
from runbook_lib.repository.store_tree import PLACEHOLDER
from runbook_lib.serving import triton
from runbook_lib.serving.supervise import Owner, stop

DOWNLOAD = "import sys; from kserve_storage import Storage; Storage.download_files(*map(lambda s: [s], sys.argv[1:]))"
SERVERS = Path(__file__).resolve().parents[3] / ".cache" / "servers"


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, str]]:
    """A store that KServe and Triton can be pointed at, and the variables that do so."""
    if request.param == "s3":
        store: ObjectStore = request.getfixturevalue("object_store")
        said = store.credentials.environment() | {"AWS_ENDPOINT_URL": store.endpoint}
        for name, value in said.items():
            monkeypatch.setenv(name, value)
        return "s3", said
    google = request.getfixturevalue("google")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
    return "gs", {"STORAGE_EMULATOR_HOST": google, "GOOGLE_CLOUD_PROJECT": "emulator"}


@pytest.mark.parametrize("settings", ["s3", "gs"], indirect=True)
def test_kserves_downloader_brings_the_whole_repository_and_nothing_of_its_neighbour(
    folder: Path, settings: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    scheme, said = settings
    (folder / "lonely" / "1").mkdir(parents=True)
    uri = push(folder, f"{scheme}://models/kserve/x", create_bucket=True).uri
    push(folder, f"{scheme}://models/kserve/x-other/")
    downloaded = download(uri, tmp_path / "read", said)
    assert downloaded.returncode == 0, downloaded.stdout + downloaded.stderr
    there = {file.path: file.sha256 for file in list_files(tmp_path / "read")}
    placeholder = there.pop(f"lonely/1/{PLACEHOLDER}")
    assert there.pop(MANIFEST) != placeholder
    assert there == {file.path: file.sha256 for file in list_files(folder)}


def download(uri: str, target: Path, said: dict[str, str]) -> subprocess.CompletedProcess[str]:
    found = sorted(SERVERS.glob("kserve-storage-*"))
    if not found:
        pytest.skip("no kserve-storage: get it with .ci/setup tests")
    target.mkdir()
    return subprocess.run(
        [sys.executable, "-c", DOWNLOAD, uri, str(target)],
        env={"PYTHONPATH": str(found[-1]), "PATH": os.environ["PATH"], **said},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_triton_serves_what_was_pushed_to_googles_store(
    folder: Path, google: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
    uri = push(folder, "gs://models/triton/served/", create_bucket=True).uri
    install = environment.ensure().triton
    variables = type(install).environment

    def more(self: Any) -> dict[str, str]:
        # Google's library for C++, which Triton reads with, has an emulator's variable of its own.
        return {**variables(self), "CLOUD_STORAGE_EMULATOR_ENDPOINT": google}

    monkeypatch.setattr(type(install), "environment", more)
    server, _ = triton.start_triton(install, uri.rstrip("/"), tmp_path, owner=Owner.this_process())
    try:
        answer = triton.generate(
            server.facts["http"], "ensemble", "stored and served", max_tokens=6
        )
    finally:
        stop(server)
    assert (answer["text_output"], answer["output_lengths"]) == ("stored", 6)


def test_what_a_role_would_find_is_found_without_keys_in_the_call(
    folder: Path, object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = object_store.credentials
    lines = f"[default]\naws_access_key_id = {keys.access_key}\naws_secret_access_key = {keys.secret_key}\n"
    (tmp_path / "credentials").write_text(lines)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_store.endpoint)
    assert push(folder, "s3://models/by-profile/", create_bucket=True).files
    assert S3Access.from_environment().access_key == ""
