"""A stored repository is judged where it stands, in each kind of store, and each is a real one."""

from __future__ import annotations

import os
from pathlib import Path

from runbook_lib.repository.lint import lint
from runbook_lib.repository.lint_stored import lint_stored
from runbook_lib.repository.skeleton import guide_layout
from runbook_lib.repository.store import push


def judged(place):
    return lint_stored(place.uri, credentials=place.credentials)


def stored(place, folder: Path) -> None:
    push(folder, place.uri, credentials=place.credentials, create_bucket=True)


def test_a_good_repository_is_good_where_it_is_stored(place, folder: Path) -> None:
    stored(place, folder)
    assert judged(place).findings == ()
    assert str(judged(place)) == f"{place.uri}: Triton loads every model."


def test_a_bad_one_has_the_findings_of_its_folder(place, tmp_path: Path) -> None:
    guide_layout(tmp_path / "guide")
    (tmp_path / "guide" / "tokenizer" / "1" / "model.py").write_text("import torch\n")
    stored(place, tmp_path / "guide")
    here = {(one.model, one.rule, one.severity) for one in lint(tmp_path / "guide").findings}
    there = {(one.model, one.rule, one.severity) for one in judged(place).findings}
    assert here == there
    assert "runbook-lint-" not in str(judged(place))


def test_weights_stay_in_the_store(place, folder: Path) -> None:
    large = folder / "tokenizer" / "1" / "weights.bin"
    large.touch()
    os.truncate(large, 40 * 2**20)
    stored(place, folder)
    before = read_so_far()
    assert judged(place).ok
    assert read_so_far() - before < 8 * 2**20


def read_so_far() -> int:
    """The bytes that this process read from sockets and files, as the kernel counts them."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def test_a_uri_without_its_final_slash_is_warned_of(place, folder: Path) -> None:
    stored(place, folder)
    (finding,) = lint_stored(place.uri.rstrip("/"), credentials=place.credentials).findings
    assert (finding.rule, finding.severity) == ("trailing_slash", "warning")
    assert finding.fix == f"Write {place.uri}"
