"""The deployment guide's own repository layout, judged by a real Triton and by our lint."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.diagnose.live import collect
from runbook_lib.lab.lab import current
from runbook_lib.repository.lint import lint
from runbook_lib.repository.skeleton import guide_layout
from runbook_lib.serving.supervise import stop

__all__ = ["Verdict", "ask_triton"]

SERVER = "triton-guide"


@dataclass(frozen=True)
class Verdict:
    """Triton's words and ours, model by model."""

    rows: tuple[tuple[str, str, str, str], ...]

    def __str__(self) -> str:
        return "\n".join(
            f"{model}\n  Triton: {said}\n  why:    {why}\n  fix:    {fix}"
            for model, said, why, fix in self.rows
        )

    def _repr_mimebundle_(self, **_: Any) -> Any:
        from runbook_lib.ui import table

        shown = table(["model", "Triton says", "because", "fix"], [list(row) for row in self.rows])
        return shown._repr_mimebundle_()


def ask_triton() -> Verdict:
    """Write the guide's literal tree, let a real Triton judge it, and explain it by lint."""
    lab = current()
    with tempfile.TemporaryDirectory(prefix="guide-") as name:
        folder = Path(name) / "models"
        guide_layout(folder)
        findings = lint(folder).findings
        log = lab.folder / f"{SERVER}.log"
        since = log.stat().st_size if log.exists() else 0
        running, _ = lab.serve(str(folder), SERVER, strict=False, timeout=60)
        try:
            evidence = collect(running.facts["http"], log=log, since=since)
        finally:
            stop(running)
    models = sorted(path for path in {one.model for one in findings} if path)
    rows = []
    for model in models:
        said = next((line.text for line in evidence.lines if model in line.text), "not loaded")
        ours = next(one for one in findings if one.model == model and one.severity == "error")
        here = f"{folder}/"  # a temporary folder: the reader's own tree has the same names
        rows.append((model, said, ours.message.replace(here, ""), ours.fix.replace(here, "")))
    return Verdict(tuple(rows))
