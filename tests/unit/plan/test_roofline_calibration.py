"""The factors in the package and the recorded score are what the benchmark's script finds."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from runbook_lib.hardware import device
from runbook_lib.plan.roofline import estimate
from runbook_lib.plan.roofline_points import points_of, published, together
from runbook_lib.plan.roofline_time import calibration, ceiling

BENCH = Path(__file__).resolve().parents[2] / "bench"
RECORDED = json.loads((BENCH / "results" / "roofline.json").read_bytes())["figures"]
SPLITS = {"configuration", "model", "gpu", "architecture", "release", "several"}
TOLERANCE = 0.01  # another machine's linear algebra rounds otherwise


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("roofline_bench", BENCH / "roofline.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(script):
    return script.measure()


def leaves(tree, path=()):
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from leaves(branch, (*path, name))
    elif isinstance(tree, list):
        for at, branch in enumerate(tree):
            yield from leaves(branch, (*path, at))
    else:
        yield path, tree


def assert_close(one, other):
    one, other = dict(leaves(one)), dict(leaves(other))
    assert one.keys() == other.keys()
    for path, figure in one.items():
        if isinstance(figure, int | float):
            assert figure == pytest.approx(other[path], rel=TOLERANCE, abs=TOLERANCE), path
        else:
            assert figure == other[path], path


def test_the_factors_in_the_package_are_those_that_the_points_give(found):
    assert_close({**calibration(), "widened": 0}, {**found[0], "widened": 0})


def test_the_recorded_score_is_found_again(found):
    assert_close(RECORDED, found[1])


def test_every_split_leaves_out_every_published_point_once(found):
    left_out = found[1]["left_out"]
    assert left_out.keys() == SPLITS
    assert {one["points"] for one in left_out.values()} == {len(published())} == {579}


def test_the_score_of_a_split_names_every_model_and_gpu_also_those_that_fit_badly(found):
    for name in ("model", "gpu", "release"):
        said = found[1][f"left_out_{name}"]
        assert sum(one["points"] for one in said.values()) == len(published())
    assert found[1]["left_out_model"].keys() == {point.model_name for point in published()}


@pytest.mark.parametrize("split", sorted(SPLITS))
def test_left_out_points_are_met_as_the_project_aims_at(split):
    said = RECORDED["left_out"][split]
    assert said["median_error"] <= 0.20
    assert said["in_interval"] >= 0.90


def test_no_published_figure_is_faster_than_the_hardware_can_be(script):
    files = (script.NEVER_FITTED, script.ANOTHER_RELEASE)
    never = [point for file in files for point in points_of(json.loads(file.read_bytes()))]
    for point in (*published(), *never):
        rate = 1 if point.first_token else together(point.deployed, point.batch)
        seconds = point.measured if point.first_token else rate / point.measured
        assert seconds > ceiling(point.step), point


@pytest.mark.parametrize("name", ["NEVER_FITTED", "ANOTHER_RELEASE"])
def test_what_was_never_fitted_shares_no_configuration_with_what_was(script, name):
    document = json.loads(getattr(script, name).read_bytes())
    fitted = {key(point) for point in published()}
    assert not fitted & {key(point) for point in points_of(document)}


def key(point):
    deployed = point.deployed
    shape = (deployed.tp, deployed.pp, deployed.attention_dp, deployed.quantization)
    return point.trtllm, point.model_name, deployed.machine.name, *shape


def asked(point):
    """The estimate of what a point was published for."""
    deployed = point.deployed
    return estimate(
        deployed.model,
        device(deployed.machine.name),
        dtype=deployed.dtype,
        quantization=deployed.quantization,
        kv_dtype=deployed.kv_dtype,
        input_len=point.input_len,
        output_len=point.output_len,
        tp=deployed.tp,
        pp=deployed.pp,
        batch=point.batch,
        trtllm=point.trtllm,
        runtime="pytorch" if deployed.pytorch else "engine",
        attention_dp=deployed.attention_dp,
    )


def test_nine_of_ten_published_figures_lie_in_the_interval_that_is_given_for_them():
    spans = [
        (one.prefill_seconds if point.first_token else one.output_tokens_per_s, point.measured)
        for point in published()
        for one in [asked(point)]
    ]
    inside = [span.low <= figure <= span.high for span, figure in spans]
    assert len(inside) == 579
    assert sum(inside) >= 0.9 * 579


@pytest.mark.parametrize(
    ("name", "recorded", "points"),
    [("NEVER_FITTED", "never_fitted", 237), ("ANOTHER_RELEASE", "another_release", 373)],
)
def test_estimates_of_what_was_never_fitted_are_as_good_as_recorded(script, name, recorded, points):
    never = points_of(json.loads(getattr(script, name).read_bytes()))
    found = [(asked(point).output_tokens_per_s, point.measured) for point in never]
    inside = sum(span.low <= figure <= span.high for span, figure in found) / len(found)
    off = sorted(abs(span.middle / figure - 1) for span, figure in found)
    said = RECORDED[recorded]["all"]
    assert said["points"] == len(never) == points
    assert inside >= said["in_interval"] - TOLERANCE
    assert off[len(off) // 2] == pytest.approx(said["median_error"], abs=TOLERANCE)


def test_a_fit_does_not_depend_on_where_it_starts(script):
    bench = script.Bench(published())
    everything = np.ones(len(bench.points), bool)
    one, other = (
        bench.fit(everything, script.START + shift * script.WIDTH) for shift in (-0.5, 0.5)
    )
    assert np.exp(one) == pytest.approx(np.exp(other), rel=0.05)


def test_a_fit_finds_the_factors_that_made_the_figures(script):
    bench = script.Bench(published())
    true = script.START + 0.3 * script.WIDTH * np.where(np.arange(len(script.START)) % 2, 1, -1)
    bench.measured = bench.measured * np.exp(np.where(bench.first, -1, 1) * bench.errors(true))
    fitted = bench.fit(np.ones(len(bench.points), bool))
    assert np.abs(bench.errors(fitted)).max() < 0.1
