"""What a page shows: figures, tables, progress and forms; the only place that draws.

Importing this package loads none of the drawing libraries. Every figure of
`runbook_lib.ui.figures` is here by its name too, as an output with its twins (`show`): a page ends
a cell with `ui.memory_figure(plan)`.
"""

from __future__ import annotations

import functools
from typing import Any

from runbook_lib.ui.bundle import Shown, show
from runbook_lib.ui.progress_bar import progress
from runbook_lib.ui.tables import Table, table

__all__ = ["Shown", "Table", "progress", "show", "table"]


def __getattr__(name: str) -> Any:
    """A figure's function that shows what it draws, loaded when a page first asks for it."""
    if not name.endswith("_figure"):
        raise AttributeError(f"runbook_lib.ui has no {name!r}")
    from runbook_lib.ui import figures

    make = getattr(figures, name)

    @functools.wraps(make)
    def shown(*given: Any, **named: Any) -> Shown:
        # Drawn now, not when IPython asks for it: there an error would leave the cell green.
        return show(make(*given, **named))

    return shown
