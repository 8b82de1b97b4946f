"""One output for a figure: interactive, as a picture, and in words."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.ui.picture_traces import spoken
from runbook_lib.ui.style import WIDTH, Figure

__all__ = ["PLOTLY", "Shown", "show"]

CONFIG = {"responsive": True, "displayModeBar": False}
"""The bar of buttons would cover the title; a double click shows the whole plot again."""
PLOTLY = "application/vnd.plotly.v1+json"


@dataclass(frozen=True)
class Shown:
    """A figure with its twins; as the last value of a cell it displays itself.

    The record keeps all three in one output: JupyterLab draws the first (trusted or not), static
    viewers show the picture, and who can't see it reads the sentence.
    """

    figure: Figure
    text: str
    png: bytes

    def save(self, folder: Path, name: str) -> Path:
        """Write the picture as `<name>.png` into a folder, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        path.write_bytes(self.png)
        return path

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[Figure, Figure]:
        """The bundle and its metadata, as IPython asks for them."""
        del include, exclude
        data = {
            PLOTLY: {**self.figure, "config": CONFIG},
            "image/png": base64.b64encode(self.png).decode("ascii"),
            "text/plain": self.text,
        }
        return data, {"image/png": {"width": WIDTH, "alt": self.text}}

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def show(figure: Any) -> Shown:
    """A figure as an output that every reader of the record can see.

    Args:
        figure: one of `runbook_lib.ui.figures`, or a `plotly.graph_objects.Figure` of bars and
            scatters. `layout.meta["text"]` is the text twin; without it the title is.

    Raises:
        RecordError: the picture can't be drawn from it (another kind of trace or text).
    """
    from runbook_lib.ui.picture import draw

    plain: Figure = dict(figure) if isinstance(figure, Mapping) else json.loads(figure.to_json())
    spec: Figure = {"data": list(plain["data"]), "layout": dict(plain["layout"])}
    return Shown(spec, _said(spec["layout"]), draw(spec))


def _said(layout: Mapping[str, Any]) -> str:
    meta = layout.get("meta")
    if isinstance(meta, Mapping) and meta.get("text"):
        return str(meta["text"])
    title = (layout.get("title") or {}).get("text")
    return spoken(title).replace("\n", " ") if title else "A figure without a title."
