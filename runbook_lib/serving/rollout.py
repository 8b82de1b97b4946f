"""Wait until a service is ready, with a live table and the cause of whatever holds it up.

The wait is driven by watches: it looks again when something changed, and reads a log only when
a container has ended. It ends early on a cause that can't heal, once it is sure of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

from runbook_lib.errors import RolloutError, RunbookError
from runbook_lib.kube.client import Kube
from runbook_lib.kube.watch import Mirror, Scope
from runbook_lib.serving.rollout_causes import Cause, explained
from runbook_lib.serving.rollout_lines import Line
from runbook_lib.serving.rollout_logs import Logs
from runbook_lib.serving.rollout_snapshot import Snapshot, TargetKind, snapshots
from runbook_lib.serving.rollout_state import Row, failed_job, rows, waiting_for

__all__ = ["Rollout", "Table", "wait_done", "wait_ready"]

# Controllers write their words one after the other: "ready" must outlast that.
SETTLED = 1.5
TICK = 1.0
SHOWN = 3
NEIGHBOURS = 0.05  # what changes together is looked at together
LABEL = "serving.kserve.io/inferenceservice"


class Target(NamedTuple):
    """What is waited for."""

    kind: TargetKind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Table:
    """How a rollout stands: one row an object, and what is waited for."""

    rows: tuple[Row, ...]
    waiting_for: str
    causes: tuple[Cause, ...]
    seconds: float
    not_permitted: tuple[str, ...] = ()
    unexplained: tuple[Line, ...] = ()

    def without_time(self) -> object:
        """What of it is news when it changes: everything but the seconds."""
        return self.waiting_for, [replace(row, seconds=0) for row in self.rows]

    def __str__(self) -> str:
        shown = [("object", "state", "seconds", "cause")]
        shown += [(one.object, one.state, str(one.seconds), one.cause) for one in self.rows]
        widths = [max(len(row[column]) for row in shown) for column in range(4)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
            for row in shown
        ]
        if self.waiting_for:
            lines.append(f"waiting for {self.waiting_for} ({self.seconds:.0f} s)")
        if self.not_permitted:
            lines.append(f"not read: {', '.join(self.not_permitted)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Rollout:
    """A rollout that is done: how long it took, how it stands, and what to know about it."""

    namespace: str
    name: str
    seconds: float
    table: Table
    lists: int

    @property
    def warnings(self) -> tuple[Cause, ...]:
        """What is not as it should be and does no harm to the service."""
        return self.table.causes


def wait_ready(
    kube: Kube,
    namespace: str,
    name: str,
    *,
    timeout: float,
    on_table: Callable[[Table], None] = lambda _: None,
    roll_back: Callable[[], str] | None = None,
) -> Rollout:
    """Wait until an InferenceService serves what it was last asked to, with every pod that it wants.

    Args:
        kube: the cluster.
        namespace: where it is.
        name: its name.
        timeout: seconds after which the wait is given up.
        on_table: is given the table whenever it changed.
        roll_back: brings the revision before back and says what it did; without it everything
            stays as it is, for inspection.

    Raises:
        RolloutError: it can't become ready, or was not in time; with the cause, the line that
            shows it, and the fix.
    """
    target = Target("InferenceService", namespace, name)
    return _wait(kube, target, timeout, on_table, roll_back)


def wait_done(
    kube: Kube,
    namespace: str,
    name: str,
    *,
    timeout: float,
    on_table: Callable[[Table], None] = lambda _: None,
) -> Rollout:
    """Wait until a Job has done its work; as `wait_ready`.

    Raises:
        RolloutError: it failed, can't go on, or was not in time.
    """
    return _wait(kube, Target("Job", namespace, name), timeout, on_table, None)


def _scopes(target: Target) -> list[Scope]:
    """What is watched: the target's own objects by label where they carry one."""
    kind, namespace, name = target
    labels = {"InferenceService": LABEL, "Job": "batch.kubernetes.io/job-name"}
    label = f"{labels[kind]}={name}"
    shared = ("Event", "PersistentVolumeClaim")
    found = [
        Scope(kind, namespace, fields=f"metadata.name={name}"),
        Scope("Pod", namespace, labels=label),
        *(Scope(one, namespace) for one in shared),
        Scope("Node"),
        Scope("Namespace", fields=f"metadata.name={namespace}"),
    ]
    if kind == "InferenceService":
        found += [Scope(one, namespace, labels=label) for one in ("Deployment", "ReplicaSet")]
        found.append(Scope("HorizontalPodAutoscaler", namespace))
    return found


class Patience:
    """Since when each cause is seen without a break, and how often it had been seen then."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[float, int]] = {}

    def settled(self, found: Sequence[Cause], at: float) -> Cause | None:
        """The first cause that can't heal and was seen often and long enough."""
        self._first = {one.id: self._first.get(one.id, (at, one.seen)) for one in found}
        return next((one for one in found if one.final and self._enough(one, at)), None)

    def _enough(self, cause: Cause, at: float) -> bool:
        since, seen = self._first[cause.id]
        return at - since >= cause.seconds and (cause.seen > seen or not cause.grows)


def _wait(
    kube: Kube,
    target: Target,
    timeout: float,
    on_table: Callable[[Table], None],
    roll_back: Callable[[], str] | None,
) -> Rollout:
    began = time.monotonic()
    patience, logs = Patience(), Logs(kube, target.namespace)
    ready_at: float | None = None
    shown: object = None
    with Mirror(kube, _scopes(target)) as mirror:
        mirror.wait_known(timeout)
        for needed in (target.kind, "Deployment"):
            if needed in mirror.refused:
                kube.list(needed, target.namespace)  # the refusal, as an error that says what to do
        while True:
            snapshot = _look(mirror, target, logs)
            passed = time.monotonic() - began
            table = _table(snapshot, passed)
            if (news := table.without_time()) != shown:
                shown = news
                on_table(table)
            ready_at = None if table.waiting_for else ready_at or passed
            if ready_at is not None and passed - ready_at >= SETTLED:
                return Rollout(
                    target.namespace, target.name, round(ready_at, 2), table, mirror.lists
                )
            settled = patience.settled(table.causes, passed)
            if settled or passed > timeout or failed_job(snapshot):
                raise _failure(target, table, settled, timeout, roll_back)
            mirror.wait_change(min(TICK, max(0.05, timeout - passed)))
            time.sleep(NEIGHBOURS)


def _look(mirror: Mirror, target: Target, logs: Logs) -> Snapshot:
    """How things are now, with the logs that this makes worth reading."""

    def sorted_out() -> Snapshot:
        unread = mirror.refused | logs.refused
        [snapshot] = snapshots(
            target.kind,
            mirror.objects(),
            only=(target.namespace, target.name),
            logs=logs.read,
            not_permitted=[f"{one} ({why})" for one, why in unread.items()],
            away=mirror.away,
        )
        return snapshot

    snapshot = sorted_out()
    return sorted_out() if logs.update(snapshot) else snapshot


def _table(snapshot: Snapshot, seconds: float) -> Table:
    now = datetime.now(UTC)
    found, unknown = explained(snapshot, now)
    heads = [one for one in found if not one.consequence_of]
    why = {one.object: one.title for one in reversed(heads)}
    return Table(
        tuple(rows(snapshot, why, now)),
        waiting_for(snapshot),
        tuple(found),
        seconds,
        snapshot.not_permitted,
        tuple(unknown),
    )


def _failure(
    target: Target,
    table: Table,
    settled: Cause | None,
    timeout: float,
    roll_back: Callable[[], str] | None,
) -> RolloutError:
    """The error; the revision before is brought back first where that is wanted."""
    cause = settled or next((one for one in table.causes if one.heals != "harmless"), None)
    done = _afterwards(target, roll_back)
    if cause is None:
        said = [str(line) for line in table.unexplained[:SHOWN]]
        known = (
            "what was said is known to no rule:" if said else "nothing that can be read tells why."
        )
        return RolloutError(
            f"{target} was not ready in {timeout:.0f} s.",
            why="\n".join([f"It still waits for {table.waiting_for}; {known}", *said]),
            fix=f"Give it more time if it is loading a large model. {done}",
            page="06_troubleshoot",
        )
    late = f"was not ready in {timeout:.0f} s"
    return RolloutError(
        f"{target} {'can not become ready' if settled else late}: {cause.title}.",
        why="\n".join([cause.why, *(str(line) for line in cause.evidence)]),
        fix=f"{cause.fix}\nConfirm: {cause.confirm}\n{done}",
        page="06_troubleshoot",
        cause=cause.id,
    )


def _afterwards(target: Target, roll_back: Callable[[], str] | None) -> str:
    """What became of the service; that it can't be rolled back must not hide why it had to be."""
    if roll_back is None:
        return f"Everything was left as it is: kubectl get pods -n {target.namespace}"
    try:
        return roll_back()
    except RunbookError as error:
        return f"The revision before could not be brought back: {error.what} {error.why}".strip()
