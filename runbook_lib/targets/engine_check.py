"""Whether an engine belongs somewhere: each question that was asked, answered at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.engine.identity import EngineFacts, engine_files, inspect_engine
from runbook_lib.engine.identity_check import (
    Mismatch,
    against_image,
    against_node,
    against_profile,
    of_itself,
)
from runbook_lib.engine.identity_place import Image, Node, image_facts, read_nodes
from runbook_lib.errors import EngineMismatchError, UsageError
from runbook_lib.lab.engines import problems_of
from runbook_lib.profile import DeploymentProfile
from runbook_lib.serving.manifests_image import serving_image

__all__ = ["Answer", "check_engine", "require_whole"]


@dataclass(frozen=True)
class Answer:
    """What was found; `asked` says against what."""

    facts: EngineFacts
    mismatches: tuple[Mismatch, ...]
    asked: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it runs there: what nobody can tell is no yes."""
        return all(one.severity == "warning" for one in self.mismatches)

    def __str__(self) -> str:
        told = [str(one) for one in self.mismatches]
        if not self.ok:
            return "\n".join(told)
        where = " and ".join(self.asked)
        return "\n".join([*told, f"It belongs to {where}." if where else WHOLE])


WHOLE = (
    "Its files are whole. Where it runs was not asked: give --node-labels, --profile or --image."
)


def check_engine(
    folder: Path,
    *,
    profile: DeploymentProfile | None = None,
    node_labels: Path | None = None,
    image: str | None = None,
    on_line: Callable[[str], None] = lambda _: None,
) -> Answer:
    """Every mismatch of an engine with where it is to run.

    Args:
        folder: the engine directory.
        profile: what it was asked to be; without `image` its serving image is looked at too.
        node_labels: a file with the labels of one node or several; it must fit each.
        image: what is to serve it.
        on_line: is told what is read, since an engine is large.

    Raises:
        BuildError: it is no engine. ProfileError: the labels can't be read. PlanError: the profile's
        release has no image that is known. UsageError: nodes and images say nothing of the lab.
    """
    nodes = read_nodes(node_labels) if node_labels else []
    inspect_engine(folder)  # refuses what is no engine before everything is read
    on_line(f"Reading every file of {folder}")
    facts = inspect_engine(folder, engine_files(folder))
    if facts.lab and (nodes or image):
        raise UsageError(
            f"{folder} is an engine of the lab: no GPU node and no NVIDIA image is for it.",
            fix=f"runbook engine check {folder}",
        )
    used = None if facts.lab else _image(profile, image)
    found = (
        *of_itself(facts, folder),
        *(against_profile(facts, profile) if profile else ()),
        *(against_image(facts, used) if used else ()),
        *_on_nodes(facts, nodes, used, profile),
        *((Mismatch(one) for one in problems_of(folder)) if facts.lab else ()),
    )
    asked = [f"the profile {profile.profile}"] if profile else []
    asked += [used.name] if used else []
    asked += [f"the node {one.name}" for one in nodes]
    asked += ["this machine"] if facts.lab else []
    return Answer(facts, tuple(dict.fromkeys(found)), tuple(asked))


def require_whole(folder: Path) -> None:
    """Refuse an engine that loads nowhere, by its config.json and the beginnings of its files.

    Raises:
        EngineMismatchError: every rank that is missing, cut off, or of another build; what Triton's
            backend needs and it lacks.
        BuildError: it is no engine directory.
    """
    facts = inspect_engine(folder)
    if wrong := [one.what for one in of_itself(facts, folder) if one.severity == "error"]:
        state = "is not whole" if facts.faults else "can't be served"
        raise EngineMismatchError(
            f"The engine {folder} {state}.",
            why="; ".join(wrong),
            fix="Build it again: page 01 with rebuild = true.",
            page="01_build_engine",
        )


def _image(profile: DeploymentProfile | None, image: str | None) -> Image | None:
    if image:
        return image_facts(image)
    if profile is None or profile.track != "engine":
        return None
    return image_facts(serving_image(profile, profile.kserve))


def _on_nodes(
    facts: EngineFacts,
    nodes: list[Node],
    image: Image | None,
    profile: DeploymentProfile | None,
) -> Iterator[Mismatch]:
    piece = (profile.gpu or "").partition(":")[2] if profile else ""
    for node in nodes:
        yield from against_node(facts, node, image, piece)
