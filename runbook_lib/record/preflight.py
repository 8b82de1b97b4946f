"""What each page looks at before it starts: the machine, the lab, and what came before. Reads only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from runbook_lib.artifacts import Engine, ModelRepository, Service
from runbook_lib.artifacts_plan import Plan
from runbook_lib.changes import Check
from runbook_lib.lab import environment
from runbook_lib.lab.builder_commands import weights_folder
from runbook_lib.places import cache_dir
from runbook_lib.plan.facts import known_models
from runbook_lib.record.page import OpenPage
from runbook_lib.serving.triton import is_ready

__all__ = [
    "engine_there",
    "machine",
    "model_known",
    "plan_there",
    "repository_there",
    "service_answers",
    "target",
    "weights_there",
]

ENOUGH_DISK = 1_000_000_000
ENOUGH_MEMORY = 2_000_000_000


def machine() -> list[Check]:
    """Processor, memory, disk and the lab's environment."""
    cores = len(os.sched_getaffinity(0))
    return [
        Check(
            "cores",
            "PASS" if cores > 1 else "WARN",
            str(cores),
            "" if cores > 1 else "figures will be noisy",
        ),
        _room("memory free", _memory_free(), ENOUGH_MEMORY, "stop other programs"),
        _room(
            "disk free for engines",
            _disk_free(cache_dir()),
            ENOUGH_DISK,
            f"free space on {cache_dir()}",
        ),
        _room(
            "disk free for records",
            _disk_free(Path.cwd()),
            ENOUGH_DISK,
            f"free space on {Path.cwd()}",
        ),
        _environment(),
    ]


def _room(name: str, free: int, enough: int, hint: str) -> Check:
    found = f"{free / 1e9:.1f} GB"
    return Check(name, "PASS", found) if free >= enough else Check(name, "FAIL", found, hint)


def _memory_free() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _disk_free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _environment() -> Check:
    ready = environment.find()
    if ready is None:
        return Check(
            "lab environment", "WARN", "not made yet", "it is made now: about 620 MB on disk"
        )
    return Check("lab environment", "PASS", f"Triton {ready.triton.version}")


def target(page: OpenPage) -> list[Check]:
    """What the target itself says: nothing in the lab; a cluster's API, KServe, rights and nodes."""
    return page.target.checks(page.profile)


def weights_there(page: OpenPage) -> Check:
    """The checkpoint folder has its config, weights and tokenizer; a cluster's Job may read elsewhere."""
    folder, weights = weights_folder(page.profile), str(page.profile.weights)
    if "://" in weights:
        if page.target.name == "kserve":
            return Check("weights", "PASS", f"{weights}: the cluster's Job reads them there")
        return Check(
            "weights", "FAIL", f"{weights} is no folder here", "--target kserve, or a folder"
        )
    wanted = ("config.json", "*.safetensors", "tokenizer.json")
    missing = [name for name in wanted if not any(folder.glob(name))]
    if missing:
        return Check(
            "weights",
            "FAIL",
            f"{folder.name} lacks {', '.join(missing)}",
            "correct `weights` in the profile",
        )
    return Check("weights", "PASS", str(page.profile.weights))


def model_known(page: OpenPage) -> Check:
    """What a plan needs: the model's config.json, here or by the model's name; in the lab all of it."""
    if page.profile.track == "lab":
        return weights_there(page)
    weights, name = str(page.profile.weights), page.profile.model_name
    if (Path(weights) / "config.json").is_file():
        return Check("model", "PASS", f"{weights}/config.json")
    if name in known_models():
        return Check("model", "PASS", f"{name} is known by name; a plan needs no weights")
    hint = "`weights` may name a folder that holds the model's config.json"
    return Check("model", "FAIL", f"{name}: no config.json here, nor known by name", hint)


def plan_there(page: OpenPage) -> Check:
    """The plan fits, and was made from the profile as it is now."""
    plan = page.artifact(Plan)
    if not plan.fits:
        return Check("plan", "FAIL", "it does not fit", "change the profile and run page 00 again")
    if plan.profile_digest != page.effective.digest:
        return Check(
            "plan", "WARN", "the profile has changed since the plan was made", "run page 00 again"
        )
    return Check("plan", "PASS", f"{plan.profile} fits {plan.device}")


def engine_there(page: OpenPage) -> Check:
    """The engine of this run still lies where it was built."""
    engine = page.artifact(Engine)
    if not (Path(engine.path) / "config.json").is_file():
        return Check("engine", "FAIL", f"{engine.path} is gone", "run page 01 again")
    return Check("engine", "PASS", engine.engine_digest[:19])


def repository_there(page: OpenPage) -> Check:
    """The repository of this run still lies where it was laid out."""
    repository = page.artifact(ModelRepository)
    if not Path(repository.path).is_dir():
        return Check("repository", "FAIL", f"{repository.path} is gone", "run page 02 again")
    return Check("repository", "PASS", f"{repository.uri} {repository.content_digest[:19]}")


def service_answers(page: OpenPage) -> Check:
    """The deployed service says that it is ready."""
    service = page.target.reached(page.artifact(Service))
    if not is_ready(service.url):
        return Check(
            "service", "FAIL", f"{service.url} is not ready", "run page 03, or page 06 to see why"
        )
    return Check("service", "PASS", service.url)
