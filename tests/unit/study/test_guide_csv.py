import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.artifacts import Interval, TradeOffRow
from runbook_lib.errors import UsageError
from runbook_lib.profile import load_profile
from runbook_lib.study.guide_csv import COLUMNS, append_rows, as_csv, check_file

FEW_EXAMPLES = settings(max_examples=40, deadline=None)  # a busy machine is no fault

GUIDE = (
    "timestamp,model_family,model_name,dtype,quantization,kv_cache_dtype,max_batch_size,"
    "max_input_len,max_output_len,tp_size,pp_size,build_time_s,p95_total_ms,"
    "throughput_req_per_sec,mean_ttfb_ms"
)
MEASURED = ("build_time_s", "p95_total_ms", "throughput_req_per_sec", "mean_ttfb_ms", "accuracy")


def row(**changed):
    profile = load_profile("lab/tiny").value.model_dump(mode="json", exclude={"tradeoffs"})
    fields = {
        "label": "int8",
        "profile": profile,
        "status": "measured",
        "measured_at": datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        "engine_digest": "sha256:1",
        "build_time_s": 8.523,
        "engine_bytes": 3_900_000,
        "p95_total_ms": Interval(value=150.126, low=140, high=160),
        "mean_ttft_ms": Interval(value=0.01234, low=0.01, high=0.02),
        "tokens_per_second": Interval(value=900),
        "requests_per_second": Interval(value=20.5),
        "accuracy": Interval(value=0.875, low=0.8, high=0.95),
        "pareto": True,
    }
    return TradeOffRow(**(fields | changed))


def failed(cause="It broke."):
    nothing = dict.fromkeys(
        ("build_time_s", "engine_bytes", "p95_total_ms", "mean_ttft_ms", "tokens_per_second")
    )
    rest = {"requests_per_second": None, "accuracy": None, "engine_digest": "", "pareto": False}
    return row(status="failed", cause=cause, **nothing, **rest)


def cells(*rows):
    return list(csv.DictReader(io.StringIO(as_csv(rows))))


def read(path):
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_first_columns_are_the_guides_in_its_order():
    header = as_csv([]).removesuffix("\n")
    assert header.startswith(f"{GUIDE},")
    assert header == ",".join(COLUMNS)
    assert len(set(COLUMNS)) == len(COLUMNS)


def test_a_row_holds_what_was_built_and_what_it_gave():
    one = cells(row())[0]
    assert [one[name] for name in GUIDE.split(",")] == [
        "2026-03-01 12:30:00",
        "llama",
        "tiny-llama",
        "float16",
        "none",
        "f16",
        "16",
        "128",
        "64",
        "1",
        "1",
        "8.52",
        "150.13",
        "20.50",
        "0.01234",
    ]
    assert (one["p95_total_ms_low"], one["p95_total_ms_high"]) == ("140.00", "160.00")
    assert (one["engine_bytes"], one["pareto"]) == ("3900000", "True")


def test_what_was_not_measured_is_an_empty_cell_and_no_zero():
    one = cells(failed())[0]
    assert [one[name] for name in MEASURED] == [""] * len(MEASURED)
    assert (one["status"], one["cause"], one["engine_bytes"]) == ("failed", "It broke.", "")


def test_a_percentile_that_the_sample_can_not_carry_is_an_empty_cell():
    assert cells(row(p95_total_ms=Interval(value=None, n=8)))[0]["p95_total_ms"] == ""


def test_a_true_zero_is_written_as_one():
    assert float(cells(row(build_time_s=0.0))[0]["build_time_s"]) == 0


@FEW_EXAMPLES
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")))
def test_any_cause_is_one_cell_of_one_row(cause):
    found = cells(failed(cause), row())
    assert [one["cause"] for one in found] == [cause, ""]


def test_a_new_file_gets_the_header_once(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    append_rows(path, [row()])
    append_rows(path, [row(label="int4"), failed()])
    assert [one["label"] for one in read(path)] == ["int8", "int4", "int8"]
    assert path.read_text().count("timestamp") == 1


def test_an_empty_file_is_as_good_as_none(tmp_path):
    path = tmp_path / "table.csv"
    path.touch()
    append_rows(path, [row()])
    assert len(read(path)) == 1


def test_a_table_whose_last_line_was_left_open_keeps_that_row(tmp_path):
    path = tmp_path / "table.csv"
    append_rows(path, [row()])
    path.write_text(path.read_text().removesuffix("\n"))
    append_rows(path, [row(label="int4")])
    assert [one["label"] for one in read(path)] == ["int8", "int4"]


def test_a_header_without_an_end_takes_rows(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(",".join(COLUMNS))
    append_rows(path, [row()])
    assert [one["label"] for one in read(path)] == ["int8"]


@pytest.mark.parametrize(
    "foreign",
    [
        b"a,b,c\n1,2,3\n",
        GUIDE.encode() + b"\n",
        b"\n",
        b"\xff\xfe\x00binary",
        ",".join(reversed(COLUMNS)).encode() + b"\n",
    ],
)
def test_a_foreign_file_is_refused_and_left_as_it_was(foreign, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(foreign)
    for refuse in (check_file, lambda file: append_rows(file, [row()])):
        with pytest.raises(UsageError, match=r"table\.csv") as caught:
            refuse(path)
        assert "--output" in caught.value.fix
    assert path.read_bytes() == foreign


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no CSV file"):
        check_file(tmp_path)


def test_looking_at_a_file_makes_none(tmp_path):
    check_file(tmp_path / "table.csv")
    assert not list(tmp_path.iterdir())
