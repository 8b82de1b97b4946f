"""The logs that may decide, each read once for each run of its container."""

from __future__ import annotations

import time

from runbook_lib.errors import RunbookError
from runbook_lib.kube.client import Kube
from runbook_lib.serving.rollout_lines import wanted_logs
from runbook_lib.serving.rollout_snapshot import LogKey, Snapshot, containers, meta

__all__ = ["Logs"]

TAIL = 2_000
AGAIN_SECONDS = 3.0


class Logs:
    """What the containers of a namespace said, as far as it was wanted."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._read_at: dict[LogKey, tuple[str, float]] = {}
        self.read: dict[LogKey, str] = {}
        self.refused: dict[str, str] = {}

    def update(self, snapshot: Snapshot) -> bool:
        """Read what is wanted and not yet known; whether there is news."""
        if snapshot.away:
            return False
        runs = {
            (str(meta(pod)["name"]), str(one["name"])): _run(one)
            for pod in snapshot.pods
            for one, _ in containers(pod)
        }
        news = False
        for key in wanted_logs(snapshot):
            run = runs[key.pod, key.container]
            known, at = self._read_at.get(key, ("", 0.0))
            still_running = run.endswith("running") and not key.previous
            if known == run and not (still_running and time.monotonic() - at > AGAIN_SECONDS):
                continue
            self._read_at[key] = run, time.monotonic()
            text = self._read(key)
            news |= text != self.read.get(key, "")
            self.read[key] = text
        return news

    def _read(self, key: LogKey) -> str:
        """A container that has no log yet, or none any more, has said nothing."""
        try:
            return self._kube.logs(
                key.pod,
                self._namespace,
                container=key.container,
                previous=key.previous,
                tail=TAIL,
            )
        except RunbookError as error:
            if "may not get pods/log" in error.what:
                self.refused["logs of pods"] = "not permitted"
            return ""


def _run(status: dict[str, object]) -> str:
    """Which run of a container this is, and whether it still runs."""
    state = status.get("state")
    now = next(iter(state), "") if isinstance(state, dict) else ""
    return f"{status.get('restartCount', 0)} {now}"
