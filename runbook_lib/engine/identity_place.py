"""Where an engine is to run: a node by its labels, an image by its tag."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.engine.identity_config import read_json
from runbook_lib.errors import ProfileError

__all__ = ["Image", "Node", "image_facts", "read_nodes"]

DATA = Path(__file__).resolve().parent / "data" / "images.json"
TAG = re.compile(r"tritonserver:(?P<tag>\d\d\.\d\d)-trtllm")
RELEASE = re.compile(r"tensorrt-llm/release:(?P<release>\d+\.\d+\.\d+\S*)")
PREFIX = "nvidia.com/"
MAX_BYTES = 32 * 2**20  # the nodes of a large cluster with the images that each holds
DEEPEST = 32


@dataclass(frozen=True)
class Image:
    """What a serving image holds; empty where it is not known here."""

    name: str
    trtllm: str = ""
    tensorrt: str = ""
    driver: str = ""


@dataclass(frozen=True)
class Node:
    """A node by the labels of GPU feature discovery."""

    name: str
    labels: Mapping[str, str]

    def label(self, *names: str) -> str:
        """The first of these labels that the node has, without their common beginning."""
        found = (self.labels.get(PREFIX + name) for name in names)
        return next((one for one in found if one), "")

    def number(self, *names: str) -> int | None:
        """A label as a number; None where it is missing or none."""
        found = self.label(*names)
        return int(found) if found.isdecimal() and len(found) < 12 else None

    @property
    def sm(self) -> str:
        """`sm90`; empty where the labels don't tell."""
        major, minor = self.label("gpu.compute.major"), self.label("gpu.compute.minor")
        return f"sm{major}{minor}" if major.isdecimal() and minor.isdecimal() else ""

    @property
    def driver(self) -> str:
        """The driver's version, by the newer label or the three older ones."""
        if full := self.label("cuda.driver-version.full"):
            return full
        parts = [self.label(f"cuda.driver.{name}") for name in ("major", "minor", "rev")]
        return ".".join(part for part in parts if part)


@cache
def _tags() -> dict[str, dict[str, str]]:
    return dict(json.loads(DATA.read_bytes())["tags"])


def image_facts(name: str) -> Image:
    """What an image holds, by its tag; TensorRT only where every image of the release has the same."""
    if found := TAG.search(name):
        known = _tags().get(found["tag"], {})
        return Image(name, *(known.get(key, "") for key in ("trtllm", "tensorrt", "driver")))
    if found := RELEASE.search(name):
        return Image(name, found["release"], tensorrt_of(found["release"]))
    return Image(name)


def tensorrt_of(release: str) -> str:
    """The TensorRT of a release; empty where it is not known, or there are several."""
    found = {one["tensorrt"] for one in _tags().values() if one["trtllm"] == release}
    return found.pop() if len(found) == 1 else ""


def read_nodes(path: Path) -> list[Node]:
    """The nodes of a file: a mapping of labels, or what `kubectl get node(s) -o yaml|json` prints.

    Raises:
        ProfileError: it can't be read, is too large or too deep, or holds no labels.
    """
    try:
        found = read_json(path, most=MAX_BYTES) if path.suffix == ".json" else _yaml(path)
    except (OSError, ValueError) as error:
        said = str(error.strerror) if isinstance(error, OSError) else str(error)
        raise ProfileError(
            f"{path} can't be read as node labels.",
            why=said,
            fix="kubectl get node NAME -o yaml > node.yaml",
        ) from None
    many = isinstance(found, dict) and isinstance(found.get("items"), list)
    nodes = [_node(one, path) for one in (found["items"] if many else [found])]
    if not nodes:
        raise ProfileError(f"{path} lists no node.", fix="kubectl get nodes -o yaml > nodes.yaml")
    return nodes


def _node(found: Any, path: Path) -> Node:
    about = found.get("metadata") if isinstance(found, dict) else None
    about = about if isinstance(about, dict) else {}
    labels = about.get("labels") if about else found
    if isinstance(labels, dict) and "labels" in labels and not about:
        labels = labels["labels"]
    if not isinstance(labels, dict) or not any(str(key).startswith(PREFIX) for key in labels):
        raise ProfileError(
            f"{path} has no label {PREFIX}…",
            why="GPU feature discovery gives a node with a GPU nvidia.com/gpu.product and others.",
            fix="Give labels of a GPU node: kubectl get node NAME -o yaml > node.yaml",
        )
    plain = {
        str(key): str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in labels.items()
        if isinstance(value, str | int | float)
    }
    return Node(str(about.get("name") or path.name), plain)


def _yaml(path: Path) -> Any:
    if not path.is_file():
        broken = path.is_symlink()
        raise FileNotFoundError(2, "a link that leads to no file" if broken else "no such file")
    with path.open("rb") as handle:
        data = handle.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES // 2**20} MiB")
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = data.decode("utf-8-sig")
        _check(YAML(typ="safe", pure=True).parse(text))
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem or error.context or 'no YAML'}") from None
    except YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _check(events: Iterable[Any]) -> None:
    """Aliases make a small file a large value; nobody writes labels with them."""
    from ruamel.yaml.events import (
        AliasEvent,
        CollectionEndEvent,
        CollectionStartEvent,
    )

    depth = 0
    for event in events:
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise ValueError("it holds an anchor or alias")
        depth += isinstance(event, CollectionStartEvent)
        depth -= isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
