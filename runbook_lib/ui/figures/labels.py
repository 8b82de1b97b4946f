"""Where the labels of points go so that none covers another or a point (pure)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from runbook_lib.ui.style import FONT_WIDTH, TEXT

__all__ = ["Label", "Mark", "place_labels"]

HEIGHT = TEXT + 4
GAPS = (4, 18, 32, 48, 66)
SIDES = ((1, 0), (1, 1), (0, 1), (1, -1), (0, -1), (-1, 0), (-1, 1), (-1, -1))

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Mark:
    """A point with what is drawn at it.

    Its place, and the ends of its error bars along both axes, are shares of the plot from the lower
    left; its radius is in CSS pixels.
    """

    place: tuple[float, float]
    radius: float
    across: Sequence[float] = ()
    upwards: Sequence[float] = ()

    def boxes(self, width: float, height: float) -> list[Box]:
        """What it covers in a plot of a size, CSS pixels."""
        x, y = self.place[0] * width, self.place[1] * height
        boxes = [_around(x, y, self.radius, self.radius)]
        if self.across:
            boxes.append((min(self.across) * width, y - 4, max(self.across) * width, y + 4))
        if self.upwards:
            boxes.append((x - 4, min(self.upwards) * height, x + 4, max(self.upwards) * height))
        return boxes


@dataclass(frozen=True)
class Label:
    """The middle of a label as an offset from its point, CSS pixels, right and up; `far` wants a line."""

    point: int
    right: float
    up: float
    far: bool


def place_labels(
    marks: Sequence[Mark], texts: Sequence[str], *, widths: Sequence[float], height: float
) -> list[Label]:
    """Find each label a free place near its point, in order; one that has none is left out.

    Args:
        marks: the points.
        texts: one a point; an empty one needs no place.
        widths: of the plot, CSS pixels: the place must be free in each.
        height: of the plot, CSS pixels.
    """
    covered = [[box for mark in marks for box in mark.boxes(width, height)] for width in widths]
    labels = []
    for index, (mark, text) in enumerate(zip(marks, texts, strict=True)):
        half = len(text) * TEXT * FONT_WIDTH / 2 + 2
        for gap, (right, up) in itertools.product(GAPS, SIDES) if text else ():
            offset = (right * (mark.radius + gap + half), up * (mark.radius + gap + HEIGHT / 2))
            x, y = mark.place[0], mark.place[1] * height + offset[1]
            boxes = [_around(x * width + offset[0], y, half, HEIGHT / 2) for width in widths]
            if all(map(_free, boxes, covered, widths, itertools.repeat(height))):
                for box, taken in zip(boxes, covered, strict=True):
                    taken.append(box)
                labels.append(Label(index, *offset, far=gap > GAPS[0]))
                break
    return labels


def _around(x: float, y: float, half_width: float, half_height: float) -> Box:
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def _free(box: Box, taken: Sequence[Box], width: float, height: float) -> bool:
    inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
    return inside and not any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in taken
    )
