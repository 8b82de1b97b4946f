import base64
import io
import json
import subprocess
import sys

import numpy as np
import plotly.graph_objects as go
import pytest
from PIL import Image

from runbook_lib.artifacts import Diagnosis, TradeOff
from runbook_lib.errors import RecordError
from runbook_lib.ui import bundle, figures, show, style
from runbook_lib.ui.figures.labels import Mark, place_labels

LIMIT = 60_000


def texts(figure):
    return json.dumps(figure, ensure_ascii=False)


def test_every_figure_is_one_small_output_with_a_picture_and_a_sentence(case):
    figure = case()
    data, metadata = show(figure)._repr_mimebundle_()
    assert set(data) == {bundle.PLOTLY, "image/png", "text/plain"}
    spec = json.dumps(data[bundle.PLOTLY], allow_nan=False)
    assert len(spec) + len(data["image/png"]) < LIMIT
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    assert picture.width >= style.WIDTH
    ink = np.asarray(picture).min(axis=2)
    assert (ink < 128).mean() > 0.002, "the picture is blank"
    edges = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    assert (edges > 240).all(), "something touches the picture's edge, so it may be cut"
    assert data["text/plain"].strip().endswith(".")
    assert metadata["image/png"]["alt"] == data["text/plain"]


def test_every_figure_is_valid_plotly(case):
    drawn = go.Figure(case())
    assert drawn.layout.title.text
    assert drawn.layout.xaxis.title.text or not drawn.data[0].x


def test_text_of_others_is_no_markup_in_a_figure(samples):
    figure = figures.build_figure(samples.engine((samples.LONG, 2.0), ("other", 1.0)))
    drawn = {**figure["layout"], "meta": None, "data": figure["data"]}
    assert "<b>" not in texts(drawn)
    assert "&lt;b&gt;&amp;$x_1$&lt;/b&gt;" in texts(drawn)


def test_the_picture_has_the_colours_of_the_figure(samples):
    figure = figures.replicas_figure(samples.service(("a", 1.0, False), ("b", 2.0, True)))
    picture = Image.open(io.BytesIO(show(figure).png)).convert("RGB")
    near = {tuple(value // 8 for value in colour) for _, colour in picture.getcolors(1000)}
    for wanted in (style.GOOD, style.BAD):
        assert tuple(int(wanted[at : at + 2], 16) // 8 for at in (1, 3, 5)) in near


@pytest.mark.parametrize(
    "trace",
    [
        {"type": "heatmap", "z": [[1]]},
        {"type": "scatter", "mode": "markers+text", "x": [1], "y": [1]},
        {"type": "scatter", "mode": "lines", "x": [1], "y": [1], "line": {"dash": "longdash"}},
        {"type": "scatter", "mode": "markers", "x": [1], "y": [1], "marker": {"symbol": "star"}},
    ],
)
def test_what_has_no_picture_is_refused(trace):
    with pytest.raises(RecordError, match="no picture can be made"):
        show({"data": [trace], "layout": {}})


def test_a_shape_that_has_no_picture_is_refused():
    shape = {"type": "rect", "x0": 0, "x1": 1, "y0": 0, "y1": 1}
    with pytest.raises(RecordError, match="'rect'"):
        show({"data": [], "layout": {"shapes": [shape]}})


def test_a_figure_of_plotly_itself_is_shown_by_its_title():
    own = go.Figure(
        [
            go.Bar(
                x=["a", "b"],
                y=np.array([1.0, 2.0]),
                name="one",
                text=["1", "2"],
                textposition="inside",
            ),
            go.Bar(x=["a", "b"], y=np.array([2, 3]), name="two"),
        ],
        {"title": {"text": "Own &amp; plain"}, "barmode": "group"},
    )
    shown = show(own)
    assert str(shown) == "Own & plain"
    assert shown.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("mode", ["group", "stack"])
def test_bars_stand_as_plotly_says(mode):
    bars = [
        go.Bar(x=[1], y=[2.0], name=name, marker_color=ink)
        for name, ink in (("one", "#0072b2"), ("two", "#d55e00"))
    ]
    own = go.Figure(
        bars,
        {"barmode": mode, "yaxis": {"range": [0, 4]}, "xaxis": {"range": [0, 2]}, "height": 300},
    )
    picture = np.asarray(Image.open(io.BytesIO(show(own).png)).convert("RGB")).astype(int)
    below = picture[picture.shape[0] // 4 :]  # without the legend

    def rows(ink):
        return np.where((abs(below - np.array(ink)).max(axis=2) < 8).any(axis=1))[0]

    one, two = rows((0, 114, 178)), rows((213, 94, 0))
    assert (two.max() <= one.min() + 2) == (mode == "stack")


def test_a_picture_is_saved_where_asked(tmp_path, samples):
    shown = show(figures.memory_figure(samples.plan(*samples.PARTS)))
    assert shown.save(tmp_path / "figures", "memory").read_bytes() == shown.png


def test_the_package_gives_a_figure_as_its_output(samples):
    from runbook_lib import ui

    assert isinstance(ui.memory_figure(samples.plan(*samples.PARTS)), ui.Shown)
    with pytest.raises(AttributeError):
        _ = ui.no_such_thing


def test_importing_the_package_loads_no_drawing_library():
    code = (
        "import sys, runbook_lib.ui; "
        "print([m for m in ('plotly', 'matplotlib', 'ipywidgets', 'IPython', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_plan_that_does_not_fit_says_how_much_is_missing(samples):
    figure = figures.memory_figure(
        samples.plan(*samples.PARTS, device=24 * samples.GIB, fits=False)
    )
    assert "30.0 GiB more than" in figure["layout"]["title"]["text"]


def test_the_parts_of_the_memory_end_where_the_sum_ends(samples):
    bars = figures.memory_figure(samples.plan(*samples.PARTS))["data"][0]
    assert bars["base"][2] + bars["x"][2] == pytest.approx(bars["x"][3]) == pytest.approx(54)
    assert bars["x"][4] == pytest.approx(80)


def test_no_sequence_runs_without_memory_for_it(samples):
    figure = figures.concurrency_figure(samples.plan(*samples.PARTS, room=4))
    runs = figure["data"][0]
    at_full = dict(zip(runs["x"], runs["y"], strict=True))
    assert at_full[4608] == 4
    assert at_full[2304] == 8
    assert max(runs["y"]) == 64


def test_time_between_phases_is_drawn(samples):
    figure = figures.build_figure(samples.engine(("convert", 2.0), ("compile", 4.0), seconds=10.0))
    assert figure["layout"]["yaxis"]["ticktext"][-1] == "between phases"
    assert figure["data"][0]["x"][-1] == pytest.approx(4.0)


def test_a_rebuilt_replica_is_named_in_the_title(samples):
    figure = figures.replicas_figure(samples.service(("a", 1.0, False), ("b", 2.0, True)))
    assert "1 built the engine again" in figure["layout"]["title"]["text"]


def test_an_unknown_rebuild_is_never_called_none(samples):
    figure = figures.replicas_figure(samples.service(("a", 1.0, None)))
    assert "whether one built an engine is not known" in figure["layout"]["meta"]["text"]


def test_percentiles_are_those_of_every_sample_though_the_curve_is_thinned(samples):
    columns = samples.columns(10_000, tokens=5)
    figure = figures.latency_figure(columns)
    marks = figure["data"][1]
    assert marks["x"] == pytest.approx(np.quantile(columns["ttft_ms"], [0.5, 0.95]), rel=1e-3)
    curve = figure["data"][0]
    assert curve["x"][-1] == pytest.approx(max(columns["ttft_ms"]), rel=1e-3)
    assert len(curve["x"]) <= 170
    assert "curves drawn through 160 ranks, percentiles from every sample" in " ".join(
        texts(figure).replace("</span><br>", " ").split()
    ).replace(style.SUBTITLE_MARK.replace('"', '\\"'), "")


def test_a_thinned_curve_stays_within_one_rank_of_the_sample(samples):
    ttft = samples.columns(10_000, tokens=5)["ttft_ms"]
    curve = figures.latency_figure({"ttft_ms": ttft})["data"][0]
    ordered = np.sort(ttft)
    for x, share in zip(curve["x"][1:], curve["y"][1:], strict=True):
        assert np.searchsorted(ordered, x * 1.0005, side="right") / len(ordered) >= share - 1e-4
        assert np.searchsorted(ordered, x * 0.9995, side="left") / len(ordered) <= share + 1e-4


def test_a_small_sample_gets_no_p95(samples):
    figure = figures.latency_figure({"ttft_ms": samples.columns(20)["ttft_ms"]})
    assert figure["data"][0]["name"].count("p50") == 1
    assert "p95" not in figure["data"][0]["name"]


def test_failed_requests_are_counted_and_drawn_apart(samples):
    figure = figures.timeline_figure(samples.columns(20, failed=3))
    failed = next(trace for trace in figure["data"] if trace["name"] == "failed")
    assert len(failed["x"]) == 3
    assert "3 failed" in figure["layout"]["title"]["text"]


def test_a_timeline_of_many_says_which_it_draws(samples):
    figure = figures.timeline_figure(samples.columns(10_000, tokens=2))
    assert "drawn: 4,941 to 5,060" in figure["layout"]["meta"]["text"]


def test_most_requests_at_once_counts_overlaps():
    zero = {"ok": [True] * 3, "first_token_ms": [None] * 3}
    columns = {"scheduled_ms": [0, 5, 10], "sent_ms": [0, 5, 10], "end_ms": [10, 20, 30], **zero}
    assert "at most 2 at once" in figures.timeline_figure(columns)["layout"]["title"]["text"]


def test_loads_that_overlap_are_not_called_different(samples):
    figure = figures.load_comparison_figure(
        [samples.measurement("closed", 1), samples.measurement("poisson", 1.1)]
    )
    assert "does not differ beyond its intervals" in " ".join(
        figure["layout"]["title"]["text"].split("<br>")
    )


def test_loads_apart_are_called_so(samples):
    figure = figures.load_comparison_figure(
        [samples.measurement("closed", 1), samples.measurement("poisson", 1.8)]
    )
    assert "p95 TTFT is 129.6 ms under Poisson" in figure["layout"]["title"]["text"]


def test_the_front_joins_only_rows_that_none_beats(samples):
    front = figures.pareto_figure(samples.tradeoff(*samples.CELLS, best="int8"))["data"][0]
    assert (front["x"], front["y"]) == ([138.0, 150.0], [1080.0, 1120.0])


def test_a_failed_engine_is_named(samples):
    assert (
        "int3" in figures.pareto_figure(samples.tradeoff(*samples.CELLS))["layout"]["title"]["text"]
    )


def test_a_study_without_any_row_is_drawn_as_nothing():
    empty = TradeOff(load_profile="x", objectives=(), rows=())
    assert "nothing to draw" in texts(figures.pareto_figure(empty))


def test_labels_cover_neither_each_other_nor_a_point():
    rng = np.random.default_rng(7)
    marks = [
        Mark((x, y), 8, (x - 0.02, x + 0.02), (y - 0.03, y + 0.03)) for x, y in rng.random((12, 2))
    ]
    names = [f"engine {number}" for number in range(12)]
    placed = place_labels(marks, names, widths=(480, 900), height=380)
    assert len(placed) > 8
    for width in (480, 900):
        boxes = [box for mark in marks for box in mark.boxes(width, 380)]
        for one in placed:
            x, y = marks[one.point].place
            middle = (x * width + one.right, y * 380 + one.up)
            half = len(names[one.point]) * style.TEXT * style.FONT_WIDTH / 2
            box = (middle[0] - half, middle[1] - 7, middle[0] + half, middle[1] + 7)
            assert not any(
                box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
                for other in boxes
            )
            boxes.append(box)


def test_a_healthy_server_is_called_healthy_with_its_figures(samples):
    figure = figures.evidence_figure(Diagnosis(sources={"log": "ok"}), samples.SERVER)
    assert figure["layout"]["meta"]["text"].startswith("Healthy, no finding in 1 source.")
    assert "ensemble.fail 0" in figure["layout"]["meta"]["text"]


def test_a_roofline_says_two_figures_its_interval_and_what_it_rests_on(samples):
    figure = samples.roofline(extrapolated=("no published point of L4",))
    said = texts(figure["layout"])
    assert "About 4,500 tokens/s with 64 at once, between 3,600 and 5,800" in said
    assert "not measured" in said
    assert "n = 32 published points" in said
    assert "of L4" in said
    assert "reading weights and cache" in said


def test_the_knee_of_a_roofline_stands_on_its_line(samples):
    figure = samples.roofline(knee=100)
    knee = next(trace for trace in figure["data"] if "nearly free" in trace["name"])
    line = next(trace for trace in figure["data"] if trace["name"] == "estimate")
    assert knee["x"] == [100]
    assert line["y"][3] < knee["y"][0] < line["y"][4]


def test_a_picture_fills_a_band_between_its_edges(samples):
    figure = samples.roofline()
    picture = Image.open(io.BytesIO(show(figure).png)).convert("RGB")
    blue = np.asarray(picture).astype(int)
    tinted = (blue[:, :, 2] - blue[:, :, 0] > 12) & (blue[:, :, 0] > 200)
    assert 0.02 < tinted.mean() < 0.35, "the band is missing, or reaches down to the axis"
