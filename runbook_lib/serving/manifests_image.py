"""Which image serves an engine: the one of the TensorRT-LLM release that builds it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from runbook_lib.errors import PlanError
from runbook_lib.profile_kserve import KServeSettings
from runbook_lib.profile_schema import DeploymentProfile

__all__ = ["serving_image"]

DATA = Path(__file__).resolve().parent / "manifests_images.json"


@cache
def _data() -> dict[str, Any]:
    return dict(json.loads(DATA.read_bytes()))


def serving_image(profile: DeploymentProfile, settings: KServeSettings) -> str:
    """The image that builds and serves a profile's engine: as set, else NVIDIA's of the release.

    Raises:
        PlanError: no image is known for the release, or the lab's was not named.
    """
    if settings.image:
        return settings.image
    if profile.track == "lab":
        raise PlanError(
            "The lab's image is not named: no registry has it.",
            why="It is made on this machine when the lab's cluster starts.",
            fix="Start it (runbook lab up --cluster), or set kserve.image.",
        )
    release = profile.trtllm_version or ""
    if release.count(".") == 1:
        release += ".0"
    tags: dict[str, str] = _data()["tags"]
    if release not in tags:
        raise PlanError(
            f"No Triton image is known for TensorRT-LLM {release}.",
            why=f"Images are known for {', '.join(tags)}.",
            fix="Set trtllm_version to one of these, or kserve.image to an image that has this release.",
        )
    return str(_data()["image"]).format(tag=tags[release])
