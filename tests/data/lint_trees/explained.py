"""The trees on which the lint and Triton part, and why: the recipe's draw, and what is behind it."""

from __future__ import annotations

PATHLIB = "a file that pathlib opens: what a class of Python's own does is not followed"
ENUM = "a class made by enum's metaclass is not followed"

EXPLAINED: dict[str, str] = {
    "B:bodies:7": PATHLIB,
    "B:tops:1": ENUM,
    "B:tops:13": ENUM,
    "B:tops:51": ENUM,
}
