"""Whether an engine is stored, told apart from a store that refuses to say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.errors import NotStoredError, RepositoryError, ServiceError
from runbook_lib.targets import kserve_build
from runbook_lib.targets.kserve_build import Workshop

PROFILE: Any = SimpleNamespace(model_repository="s3://models/triton/x/")


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch) -> Workshop:
    nothing: Any = None
    monkeypatch.setattr(Workshop, "key", lambda *_: "sha256:" + "ab" * 32)
    monkeypatch.setattr(kserve_build, "access_at_hand", lambda: nothing)
    return Workshop(nothing, nothing, nothing)


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(kserve_build, "read_manifest", refuse)


def test_an_engine_that_is_not_stored_is_to_be_built(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, NotStoredError("nothing there"))
    assert workshop._is_stored(PROFILE) is False


@pytest.mark.parametrize("error", [RepositoryError("403"), ServiceError("silent")])
def test_a_store_that_refuses_is_told_and_not_taken_for_an_empty_one(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    answer(monkeypatch, error)
    with pytest.raises(type(error)):
        workshop._is_stored(PROFILE)
