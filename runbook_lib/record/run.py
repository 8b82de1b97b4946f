"""A run's folder: where its pages, artifacts, data and logs go, and how it is found again."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from runbook_lib.artifacts import utc_now
from runbook_lib.errors import RecordError
from runbook_lib.files import write_whole
from runbook_lib.record.digests import MANIFEST

__all__ = ["Run"]

ABOUT = "run.json"
SPARE, SPARE_BYTES = ".spare", 12_288
SECOND = len("20260301T120000Z")


def _now() -> str:
    """The present time to the microsecond, so that runs started together keep their order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True)
class Run:
    """One run by its folder: `outputs/<UTC time>-<profile>-<id>/`."""

    folder: Path

    @classmethod
    def create(cls, outputs: Path, profile: str) -> Run:
        """A new, empty run below `outputs`.

        Raises:
            RecordError: the folder can't be made (no permission, no space).
        """
        name = Path(profile).stem if Path(profile).is_absolute() else profile
        slug = re.sub(r"[^a-z0-9.]+", "-", name.lower().removesuffix(".yaml"))[-40:].strip("-.")
        folder = outputs / f"{utc_now():%Y%m%dT%H%M%SZ}-{slug}-{secrets.token_hex(3)}"
        run = cls(folder)
        try:
            folder.mkdir(parents=True)
            write_whole(
                folder / ABOUT,
                json.dumps({"profile": profile, "started": _now()}, indent=2),
            )
        except OSError as error:
            raise RecordError(
                f"The run's folder {folder} can't be made.",
                why=str(error.strerror),
                fix="Free some space, or choose another place: --outputs DIR or RUNBOOK_OUTPUTS.",
            ) from None
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """The run of a folder.

        Raises:
            RecordError: the folder is not a run's.
        """
        if not (folder / ABOUT).is_file():
            raise RecordError(
                f"{folder} is not a run.",
                why=f"It has no {ABOUT}.",
                fix="Give the folder of a run below outputs/, or leave it out to start a new one.",
            )
        return cls(folder.absolute())

    @classmethod
    def newest(cls, outputs: Path, profile: str) -> Run | None:
        """The newest run of a profile below `outputs`, if there is one."""
        found = sorted(
            (path.parent.absolute() for path in outputs.glob(f"*/{ABOUT}")), reverse=True
        )
        # Among runs of one second the names are in no order, so those are told apart by their start.
        for _, together in groupby(found, key=lambda folder: folder.name[:SECOND]):
            fitting = [run for run in map(cls, together) if run.about().get("profile") == profile]
            if fitting:
                return max(fitting, key=lambda run: str(run.about().get("started")))
        return None

    @property
    def sealed(self) -> bool:
        """Whether its digests are written: from then on nothing in it may change."""
        return (self.folder / MANIFEST).exists()

    def unseal(self) -> None:
        """Take the digests away, since the run goes on; until its end it can't be verified."""
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def continued(self) -> Run:
        """A new run that starts from copies of this one's artifacts; this one stays as it is.

        Raises:
            RecordError: as `create`.
        """
        following = Run.create(self.folder.parent, str(self.about().get("profile")))
        if self.artifacts.is_dir():
            shutil.copytree(self.artifacts, following.artifacts)
        following.note(continues=self.id)
        return following

    def keep_spare(self) -> None:
        """Take some room while there is some: on a disk that gets full the end can still be told."""
        write_whole(self.folder / SPARE, bytes(SPARE_BYTES))

    def free_spare(self) -> None:
        """Give that room back."""
        (self.folder / SPARE).unlink(missing_ok=True)

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def artifacts(self) -> Path:
        """Where pages hand on their results."""
        return self.folder / "artifacts"

    @property
    def data(self) -> Path:
        """Tables and raw measurements."""
        return self.folder / "data"

    @property
    def logs(self) -> Path:
        """What builders and servers said."""
        return self.folder / "logs"

    def about(self) -> dict[str, Any]:
        """What was written down about the run so far."""
        try:
            known = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def note(self, **facts: Any) -> None:
        """Add facts to what is written down about the run."""
        write_whole(self.folder / ABOUT, json.dumps(self.about() | facts, indent=2, default=str))
