"""The picture of a figure: the same plotly figure drawn by matplotlib, in this process.

No browser is needed and a picture takes about 0.2 s. What can't be drawn here is refused, so that
no figure loses its twin unnoticed.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runbook_lib.ui.picture_traces import (
    DASHES,
    POINTS_PER_PIXEL,
    Drawn,
    color,
    draw_traces,
    known,
    spoken,
    undrawable,
)
from runbook_lib.ui.style import (
    GRID,
    INK,
    MUTED,
    RULE,
    SUBTITLE,
    SUBTITLE_MARK,
    TEXT,
    TITLE,
    WIDTH,
    Figure,
)
from runbook_lib.ui.words import BREAK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure as Canvas

__all__ = ["draw"]

SCALE = 1.5
"""Pixels of the picture per CSS pixel: sharp enough for print, small enough for a notebook."""
COLOURS = 64
TALL = 600
"""CSS pixels above which a picture is drawn at its plain size, as its bytes grow with its height."""
EDGE = 12
LINE = 1.35


def draw(figure: Figure) -> bytes:
    """The PNG twin of a figure.

    Args:
        figure: plotly's JSON form, `{"data": [...], "layout": {...}}`.

    Raises:
        RecordError: it has a trace, a shape or a text that isn't drawn here.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    layout = figure["layout"]
    height = float(layout.get("height") or 450)
    with (
        warnings.catch_warnings(),
        rc_context({"text.parse_math": False, "font.family": "DejaVu Sans"}),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        canvas = Canvas(
            figsize=(WIDTH / 100, height / 100), dpi=100 * (SCALE if height <= TALL else 1)
        )
        FigureCanvasAgg(canvas)
        axes = canvas.add_axes((0.1, 0.2, 0.8, 0.6))
        drawn = draw_traces(axes, figure["data"], layout)
        _shapes(axes, layout.get("shapes") or ())
        _axis(axes, axes.xaxis, "x", layout.get("xaxis") or {})
        _axis(axes, axes.yaxis, "y", layout.get("yaxis") or {})
        _frame(axes)
        top = _heads(canvas, layout, height)
        legend = _legend(canvas, drawn) if layout.get("showlegend", True) else 0.0
        _notes(axes, layout.get("annotations") or ())
        _place(canvas, axes, layout, height, top + legend)
        return _encoded(canvas)


def _margin(layout: Mapping[str, Any], side: str, otherwise: float) -> float:
    return float((layout.get("margin") or {}).get(side, otherwise))


def _axis(axes: Axes, axis: Axis, letter: str, spec: Figure) -> None:
    """Scale, range, ticks, title and grid of one axis."""
    if spec.get("visible") is False:
        axis.set_visible(False)
    log = spec.get("type") == "log"
    scale = axes.set_xscale if letter == "x" else axes.set_yscale
    limits = axes.set_xlim if letter == "x" else axes.set_ylim
    if log:
        scale("log")
    if bounds := spec.get("range"):
        limits(*(10.0**bound if log else bound for bound in bounds))
    elif spec.get("autorange") == "reversed":
        axis.set_inverted(True)
    title = (spec.get("title") or {}).get("text", "")
    axis.set_label_text(spoken(title), fontsize=TEXT * POINTS_PER_PIXEL, color=INK)
    _ticks(axis, spec, log=log)
    if spec.get("showgrid", True):
        axis.grid(visible=True, color=color(str(spec.get("gridcolor", GRID))), linewidth=0.7)


def _ticks(axis: Axis, spec: Figure, *, log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    size, length = TEXT * POINTS_PER_PIXEL, 0 if spec.get("ticks") == "" else 3
    axis.set_tick_params(labelsize=size, length=length, color=RULE, labelcolor=INK, pad=4)
    if spec.get("showticklabels") is False:
        axis.set_tick_params(labelbottom=False, labelleft=False)
    if (values := spec.get("tickvals")) is not None:
        axis.set_ticks(
            list(values), [spoken(text) for text in spec.get("ticktext") or map(str, values)]
        )
    elif not axis.have_units():
        suffix = spec.get("ticksuffix", "")
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{_number(value)}{suffix}"))
    if log:
        axis.set_minor_formatter(NullFormatter())
        axis.set_tick_params(which="minor", length=0)


def _number(value: float) -> str:
    text = f"{value:,.10g}" if abs(value) < 1e15 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _frame(axes: Axes) -> None:
    for side, axis in (
        ("top", None),
        ("right", None),
        ("left", axes.yaxis),
        ("bottom", axes.xaxis),
    ):
        axes.spines[side].set_visible(axis is not None and axis.get_visible())
        axes.spines[side].set_color(RULE)
    axes.set_axisbelow(True)


def _shapes(axes: Axes, shapes: Any) -> None:
    for shape in shapes:
        line = shape.get("line") or {}
        style: Figure = {
            "color": color(line.get("color", INK)),
            "linewidth": line.get("width", 1) * POINTS_PER_PIXEL,
            "linestyle": known(DASHES, str(line.get("dash", "solid")), "dash"),
            "zorder": 3,
        }
        if (
            shape.get("type") == "line"
            and shape.get("yref") == "paper"
            and shape["x0"] == shape["x1"]
        ):
            axes.axvline(shape["x0"], **style)
        elif (
            shape.get("type") == "line"
            and shape.get("xref") == "paper"
            and shape["y0"] == shape["y1"]
        ):
            axes.axhline(shape["y0"], **style)
        else:
            raise undrawable(f"a shape {shape.get('type')!r} that is no line across the plot")


def _heads(canvas: Canvas, layout: Mapping[str, Any], height: float) -> float:
    """Draw title and subtitle; return where they end, CSS pixels from the top."""
    title = layout.get("title") or {}
    lines = str(title.get("text") or "").split(BREAK)
    small = [line for line in lines if line.startswith(SUBTITLE_MARK)]
    below_title = BREAK.join(
        line.removeprefix(SUBTITLE_MARK).removesuffix("</span>") for line in small
    )
    heads = [
        (BREAK.join(line for line in lines if line not in small), TITLE, INK, "bold"),
        (below_title or (title.get("subtitle") or {}).get("text") or "", SUBTITLE, MUTED, "normal"),
    ]
    below = float(EDGE)
    for text, size, ink, weight in heads:
        if text:
            points = size * POINTS_PER_PIXEL
            canvas.text(
                EDGE / WIDTH,
                1 - below / height,
                spoken(text),
                fontsize=points,
                color=ink,
                fontweight=weight,
                va="top",
                linespacing=1.25,
            )
            below += (spoken(text).count("\n") + 1) * size * LINE
    return below + EDGE / 2


def _legend(canvas: Canvas, drawn: list[Drawn]) -> float:
    """Draw the legend in as few rows as fit; return its height in CSS pixels."""
    named = [one for one in drawn if one.name]
    for columns in range(len(named), 0, -1):
        legend = canvas.legend(
            [one.handle for one in named],
            [spoken(one.name) for one in named],
            loc="lower left",
            ncols=columns,
            frameon=False,
            fontsize=TEXT * POINTS_PER_PIXEL,
            handlelength=1.6,
            columnspacing=1.5,
            borderaxespad=0.3,
        )
        box = legend.get_window_extent()
        if box.width <= (WIDTH - 2 * EDGE) * canvas.dpi / 100 or columns == 1:
            return float(box.height) * 100 / canvas.dpi
        legend.remove()
    return 0.0


def _notes(axes: Axes, notes: Any) -> None:
    """Texts in the plot; one with an arrow stands `ax`, `ay` CSS pixels from what it names."""
    paper = {"x": axes.get_yaxis_transform, "y": axes.get_xaxis_transform}
    for one in notes:
        refs = (one.get("xref", "x") == "paper", one.get("yref", "y") == "paper")
        where: Any = "axes fraction" if all(refs) else "data"
        if refs[0] != refs[1]:
            # A blended transform takes one coordinate of the plot's box and one of the data.
            where = paper["x"]() if refs[0] else paper["y"]()
        arrow = bool(one.get("showarrow", True))
        shift = ("ax", "ay") if arrow else ("xshift", "yshift")
        axes.annotate(
            spoken(one["text"]),
            (_at(axes.xaxis, one["x"], refs[0]), _at(axes.yaxis, one["y"], refs[1])),
            xycoords=where,
            xytext=(
                one.get(shift[0], 0) * POINTS_PER_PIXEL,
                one.get(shift[1], 0) * POINTS_PER_PIXEL * (-1 if arrow else 1),
            ),
            textcoords="offset points",
            ha=one.get("xanchor", "center"),
            va={"top": "top", "bottom": "bottom"}.get(one.get("yanchor", "middle"), "center"),
            fontsize=(one.get("font") or {}).get("size", TEXT) * POINTS_PER_PIXEL,
            color=color((one.get("font") or {}).get("color", INK)),
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkB": 3}
            if arrow
            else None,
            annotation_clip=False,
            zorder=6,
        )


def _at(axis: Axis, value: float, paper: bool) -> float:
    """Plotly gives a note's place on a log axis as the exponent."""
    return float(10.0**value) if axis.get_scale() == "log" and not paper else value


def _place(
    canvas: Canvas, axes: Axes, layout: Mapping[str, Any], height: float, top: float
) -> None:
    """Give the axes what titles, legend and tick labels leave, so that nothing is cut."""
    right = max(_margin(layout, "r", 24), 16)
    left, bottom = 80.0, 60.0
    for _ in range(2):  # the labels of the ticks depend on the room, and the room on the labels
        box = (
            left / WIDTH,
            bottom / height,
            (WIDTH - left - right) / WIDTH,
            (height - top - bottom) / height,
        )
        axes.set_position(box)
        canvas.draw_without_rendering()
        edges = axes.get_window_extent()
        beside, below = axes.yaxis.get_tightbbox(), axes.xaxis.get_tightbbox()
        left = (edges.x0 - beside.x0) * 100 / canvas.dpi + EDGE if beside else 24.0
        bottom = (edges.y0 - below.y0) * 100 / canvas.dpi + EDGE if below else 24.0
    box = (
        left / WIDTH,
        bottom / height,
        (WIDTH - left - right) / WIDTH,
        (height - top - bottom) / height,
    )
    axes.set_position(box)
    for legend in canvas.legends:
        legend.set_bbox_to_anchor((EDGE / WIDTH, 1 - top / height))


def _encoded(canvas: Canvas) -> bytes:
    """The canvas as a PNG of few colours: a third of the size, no visible loss."""
    from PIL import Image

    surface: Any = canvas.canvas
    surface.draw()
    width, height = surface.get_width_height()
    pixels = surface.buffer_rgba()
    picture = Image.frombuffer("RGBA", (width, height), pixels, "raw", "RGBA", 0, 1).convert("RGB")
    few = picture.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    out = io.BytesIO()
    few.save(out, "PNG", optimize=True)
    return out.getvalue()
