from types import SimpleNamespace

import pytest

from runbook_lib.artifacts import Interval, TradeOff, TradeOffRow, utc_now
from runbook_lib.bench.settings import LoadSettings
from runbook_lib.errors import BuildError, PlanError, ServiceError
from runbook_lib.profile import DeploymentProfile, load_profile
from runbook_lib.study import tradeoffs
from runbook_lib.targets.lab import LabTarget

LOAD = LoadSettings(concurrency=4, requests=40)
LAB = LabTarget()


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tmp_path):
    monkeypatch.setenv("RUNBOOK_CACHE", str(tmp_path / "cache"))


def tiny(*cells):
    base = load_profile("lab/tiny").value.model_dump()
    return DeploymentProfile.model_validate(base | {"tradeoffs": list(cells)})


KV = {"label": "kv-u8", "kv_cache_dtype": "u8"}
INT8 = {"label": "int8", "quantization": "int8"}


def measured(label, rate=500.0):
    return TradeOffRow(
        label=label,
        profile={},
        status="measured",
        measured_at=utc_now(),
        build_time_s=3.0,
        engine_bytes=3_900_000,
        p95_total_ms=Interval(value=100.0),
        tokens_per_second=Interval(value=rate),
        accuracy=Interval(value=0.9, low=0.8, high=0.95, n=80),
    )


@pytest.fixture
def bench(monkeypatch):
    """Cells are built and measured on paper; `broken` names those that can't be."""

    one = SimpleNamespace(done=[], broken={})

    def build(profile, log, *_, rebuild):
        assert not rebuild
        if error := one.broken.get(log.stem.removeprefix("build-")):
            raise error

    def serve(_, cell, *__):
        one.done.append(cell.label)
        return measured(cell.label)

    monkeypatch.setattr(LAB, "build", build)
    monkeypatch.setattr(tradeoffs, "_serve_and_measure", serve)
    return one


def study(profile, tmp_path, **changed):
    return tradeoffs.study(LAB, profile, LOAD, ["prompt"], tmp_path, **changed)


# -- cells ---------------------------------------------------------------------------------------


def test_the_profile_itself_is_the_first_cell():
    cells = tradeoffs.cells_of(tiny(KV, INT8))
    assert [cell.label for cell in cells] == ["profile", "kv-u8", "int8"]
    assert cells[1].profile.kv_cache_dtype == "u8"
    assert cells[1].profile.quantization == "none"
    assert cells[2].profile.quantization == "int8"


def test_a_cell_need_not_suit_the_other_cells():
    longer = {"label": "longer", "max_input_len": 160}
    shorter = {"label": "shorter", "max_seq_len": 150}
    cells = tradeoffs.cells_of(tiny(longer, shorter))
    assert [cell.profile.effective_max_seq_len for cell in cells] == [192, 224, 150]


def test_every_shipped_profile_of_the_lab_has_its_cells():
    assert len(tradeoffs.cells_of(load_profile("lab/tiny").value)) == 8


def test_the_changes_name_every_cell_that_is_to_be_measured():
    found = tradeoffs.changes_of(LAB, tradeoffs.cells_of(tiny(KV)), LOAD, remeasure=False)
    assert [(one.verb, one.what) for one in found] == [("measure", "profile"), ("measure", "kv-u8")]
    assert found[1].detail.startswith("float16, none, KV u8, inputs ")


def test_an_approval_of_one_study_fits_no_other_limits():
    other = {"label": "kv-u8", "kv_cache_dtype": "u8", "max_batch_size": 2}
    one, two = (
        tradeoffs.changes_of(LAB, tradeoffs.cells_of(tiny(cell)), LOAD, remeasure=True)
        for cell in (KV, other)
    )
    assert one[0] == two[0]
    assert one[1] != two[1]


def test_engines_of_another_track_are_refused_before_anything_is_asked():
    cells = tradeoffs.cells_of(load_profile("llama-7b").value)
    with pytest.raises(PlanError, match="its track is engine"):
        tradeoffs.changes_of(LAB, cells, LOAD, remeasure=False)


# -- the study -----------------------------------------------------------------------------------


def test_every_cell_is_measured_and_told(bench, tmp_path):
    told = []
    found = study(tiny(KV, INT8), tmp_path, on_cell=lambda *what: told.append(what))
    assert told == [(0, "profile"), (1, "kv-u8"), (2, "int8")]
    assert [row.label for row in found.rows] == ["profile", "kv-u8", "int8"]
    assert found.load_profile == "closed, 4 in flight, 40 requests, 64 tokens"
    assert found.best in {"profile", "kv-u8", "int8"}


def test_a_cell_whose_receipt_holds_is_not_measured_again(bench, tmp_path):
    study(tiny(KV), tmp_path)
    again = study(tiny(KV, INT8), tmp_path)
    assert bench.done == ["profile", "kv-u8", "int8"]
    assert [row.reused for row in again.rows] == [True, True, False]
    assert tradeoffs.changes_of(LAB, tradeoffs.cells_of(tiny(KV)), LOAD, remeasure=False) == []


def test_all_is_measured_again_when_that_is_wanted(bench, tmp_path):
    study(tiny(KV), tmp_path)
    again = study(tiny(KV), tmp_path, remeasure=True)
    assert len(bench.done) == 4
    assert not any(row.reused for row in again.rows)


def test_another_load_is_another_measurement(bench, tmp_path):
    study(tiny(), tmp_path)
    other = LoadSettings(concurrency=8, requests=40)
    assert len(tradeoffs.changes_of(LAB, tradeoffs.cells_of(tiny()), other, remeasure=False)) == 1


@pytest.mark.parametrize("damage", ["", "[]", "{}", "null", '{"label": 1}'])
def test_a_damaged_receipt_holds_nothing(damage, bench, tmp_path):
    study(tiny(), tmp_path)
    for receipt in (tmp_path / "cache" / "studies").iterdir():
        receipt.write_text(damage)
    study(tiny(), tmp_path)
    assert bench.done == ["profile", "profile"]


def test_a_cell_that_can_not_be_built_stays_with_its_cause_and_ends_nothing(bench, tmp_path):
    bench.broken["kv-u8"] = BuildError("The build broke.", why="No memory.")
    found = study(tiny(KV, INT8), tmp_path)
    assert [row.status for row in found.rows] == ["measured", "failed", "measured"]
    assert found.rows[1].cause == "The build broke. No memory."
    assert not found.rows[1].pareto


def test_a_cell_that_failed_is_tried_again(bench, tmp_path):
    bench.broken["kv-u8"] = ServiceError("It did not start.")
    study(tiny(KV), tmp_path)
    bench.broken.clear()
    assert [row.status for row in study(tiny(KV), tmp_path).rows] == ["measured", "measured"]


def test_a_cause_is_kept_short(bench, tmp_path):
    bench.broken["profile"] = BuildError("x" * 10_000)
    assert len(study(tiny(), tmp_path).rows[0].cause) == 600


def test_the_table_has_a_row_for_every_engine_and_says_why_one_is_missing():
    failed = TradeOffRow(label="int3", profile={}, status="failed", cause="no such type")
    found = TradeOff(load_profile="closed", objectives=(), rows=(measured("a"), failed))
    text = str(tradeoffs.table(found))
    assert "int3" in text
    assert "no such type" in text
    assert "3.9" in text


def test_accuracy_is_asked_of_the_served_model(monkeypatch):
    asked = []

    def generate(url, model, prompt, *, max_tokens):
        asked.append((url, model, max_tokens))
        return {"text_output": right.get(prompt, "") if len(asked) % 2 else "no idea"}

    right = {one.prompt: one.answer for one in tradeoffs.load_questions()}
    monkeypatch.setattr(tradeoffs, "generate", generate)
    found = tradeoffs.accuracy_of("http://127.0.0.1:1", "ensemble")
    assert found.n == len(right)
    assert found.low < found.value < found.high
    assert set(asked) == {("http://127.0.0.1:1", "ensemble", tradeoffs.ANSWER_TOKENS)}
