"""The figures of the seven pages: pure functions from artifacts, or plain columns, to figures.

Each gives plotly's JSON form in the house style: `show()` makes an output of it, and
`plotly.graph_objects.Figure(figure)` takes it as it is.
"""

from runbook_lib.ui.figures.build import build_figure
from runbook_lib.ui.figures.comparison import load_comparison_figure
from runbook_lib.ui.figures.deploy import replicas_figure
from runbook_lib.ui.figures.evidence import evidence_figure
from runbook_lib.ui.figures.latency import latency_figure
from runbook_lib.ui.figures.plan import concurrency_figure, memory_figure
from runbook_lib.ui.figures.repository import repository_figure
from runbook_lib.ui.figures.roofline import roofline_figure
from runbook_lib.ui.figures.speed import speed_figure
from runbook_lib.ui.figures.timeline import timeline_figure
from runbook_lib.ui.figures.tradeoff import pareto_figure

__all__ = [
    "build_figure",
    "concurrency_figure",
    "evidence_figure",
    "latency_figure",
    "load_comparison_figure",
    "memory_figure",
    "pareto_figure",
    "replicas_figure",
    "repository_figure",
    "roofline_figure",
    "speed_figure",
    "timeline_figure",
]
