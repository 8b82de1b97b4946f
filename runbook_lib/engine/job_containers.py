"""The containers of a build Job: each runs one program by its words, as an ordinary user.

Only those that read or write a store get its keys; a build step has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runbook_lib.engine.job_order import WEIGHTS, WORK, BuildOrder, BuildPlace, StoreKeys, label_of

__all__ = ["PROGRAMS", "fetching", "storing", "volumes", "working"]

Manifest = dict[str, Any]

PROGRAMS = "/opt/runbook"
# Where KServe's image has the program that fetches a URI into a folder.
INITIALIZER = "/storage-initializer/scripts/initializer-entrypoint"
STORAGE = {
    "requests": {"cpu": "100m", "memory": "256Mi"},
    "limits": {"cpu": "2", "memory": "4Gi"},
}
# Without an entry for the user in the image's passwd, Python asks these who runs it.
PERSON = {"HOME": "/tmp", "USER": "runbook", "LOGNAME": "runbook", "PYTHONUNBUFFERED": "1"}  # noqa: S108


def fetching(order: BuildOrder, place: BuildPlace, keys: StoreKeys, name: str) -> list[Manifest]:
    """What brings the weights; nothing where a volume claim holds them."""
    if order.claim is not None:
        return []
    # Without the slash KServe's downloader also takes `<prefix>-other/`.
    source = f"{order.weights.rstrip('/')}/" if order.weights.startswith("s3://") else order.weights
    argv = _once("weights", (INITIALIZER, source, WEIGHTS))
    env = _hub_env(keys) if order.weights.startswith("hf://") else _store_env(keys)
    return [
        {
            "name": "weights",
            "image": place.storage_image,
            "command": _words(argv),
            "resources": STORAGE,
            **_common(env, _mounts(place, name)),
        }
    ]


def working(order: BuildOrder, place: BuildPlace, name: str) -> list[Manifest]:
    """One container a step of the build, each as large as the place allows."""
    mounts = _mounts(place, name)
    if order.claim is not None:
        path = order.claim[1]
        inside = {"subPath": path} if path else {}
        mounts += [{"name": "weights", "mountPath": WEIGHTS, "readOnly": True, **inside}]
    if place.gpu_count:
        mounts += [{"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108 - its 64 MB are too few
    amounts: Manifest = {"cpu": place.cpu, "memory": place.memory}
    if place.gpu_count:
        amounts[place.gpu_resource] = str(place.gpu_count)
    most = amounts | {"cpu": place.cpu_limit or place.cpu}
    return [
        {
            "name": label_of(one.step),
            "image": place.image,
            # Its own entrypoint goes first, as for the server: it fits CUDA to the node's driver.
            "args": _words(_once(one.step, one.argv)),
            "resources": {"requests": amounts, "limits": most},
            **_common([], mounts),
        }
        for one in order.commands
    ]


def storing(order: BuildOrder, place: BuildPlace, keys: StoreKeys, name: str) -> Manifest:
    """What stores the engine."""
    program = ("python3", f"{PROGRAMS}/store_engine.py", "--work", WORK)
    target = ("--result", f"{order.result.rstrip('/')}/", "--inputs", order.inputs)
    argv = [*program, *target, *(("--replace",) if order.replace else ())]
    return {
        "name": "upload",
        "image": place.storage_image,
        "command": _words(argv),
        "resources": STORAGE,
        **_common(_store_env(keys), _mounts(place, name)),
    }


def volumes(order: BuildOrder, place: BuildPlace, name: str) -> list[Manifest]:
    """What the containers mount."""
    room = {"emptyDir": {"sizeLimit": place.work_size}}
    claimed = {"persistentVolumeClaim": {"claimName": place.work_claim}}
    made: list[Manifest] = [
        {"name": "work", **(claimed if place.work_claim else room)},
        {"name": "tmp", **room},
        {"name": "programs", "configMap": {"name": name}},
    ]
    if place.gpu_count:
        made.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    if order.claim is not None:
        claim = {"claimName": order.claim[0], "readOnly": True}
        made.append({"name": "weights", "persistentVolumeClaim": claim})
    return made


def _once(step: str, argv: Sequence[str]) -> list[str]:
    head = ["python3", f"{PROGRAMS}/run_step.py", "--work", WORK, "--step", label_of(step), "--"]
    return [*head, *argv]


def _words(argv: Sequence[str]) -> list[str]:
    """Kubernetes replaces $(NAME) in a command; two dollars are one of the command's own."""
    return [word.replace("$", "$$") for word in argv]


def _common(env: list[Manifest], mounts: list[Manifest]) -> Manifest:
    return {
        "imagePullPolicy": "IfNotPresent",
        "workingDir": WORK,
        "env": [*({"name": key, "value": text} for key, text in PERSON.items()), *env],
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _mounts(place: BuildPlace, name: str) -> list[Manifest]:
    # A claim may serve many builds: each has a folder of its own in it.
    inside = {"subPath": name} if place.work_claim else {}
    return [
        {"name": "work", "mountPath": WORK, **inside},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
        {"name": "programs", "mountPath": PROGRAMS, "readOnly": True},
    ]


def _store_env(keys: StoreKeys) -> list[Manifest]:
    plain = {"AWS_DEFAULT_REGION": keys.region}
    if keys.endpoint:
        plain["AWS_ENDPOINT_URL"] = keys.endpoint
    secret = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if keys.secret else ()
    named = [_by_reference(one, keys.secret) for one in secret]
    return [*({"name": key, "value": text} for key, text in plain.items()), *named]


def _hub_env(keys: StoreKeys) -> list[Manifest]:
    plain = [{"name": "HF_ENDPOINT", "value": keys.hub_url}] if keys.hub_url else []
    return plain + ([_by_reference("HF_TOKEN", keys.hub_secret)] if keys.hub_secret else [])


def _by_reference(variable: str, secret: str) -> Manifest:
    return {
        "name": variable,
        "valueFrom": {"secretKeyRef": {"name": secret, "key": variable}},
    }
