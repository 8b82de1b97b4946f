"""A real object store and the repository that is pushed to it."""

from __future__ import annotations

from collections.abc import Iterator
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
