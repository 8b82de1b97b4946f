"""Samples lie beside these tests; they are no package, so they are loaded by path."""

import importlib.util
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("ui_samples", Path(__file__).with_name("samples.py"))
_samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_samples)


@pytest.fixture
def samples():
    return _samples


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        metafunc.parametrize("case", _samples.CASES.values(), ids=_samples.CASES.keys())
