"""The front page of a record: how it ended, its pages, where its data lies. Opens offline."""

from __future__ import annotations

import html

from runbook_lib.files import write_whole
from runbook_lib.parameters import PAGES
from runbook_lib.record.run import Run

__all__ = ["write_index"]

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1b1f;background:#fff}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem .6rem;border-bottom:1px solid #ddd}
.completed,.held{color:#1b5e20;font-weight:600}.failed{color:#b3261e;font-weight:600}.not_run{color:#6b6b6b}
pre{white-space:pre-wrap;background:#f6f6f6;padding:.5rem}
"""


def write_index(run: Run) -> None:
    """Write `index.html` from what the run wrote down about itself."""
    about = run.about()
    pages = about.get("pages", {})
    rows = "".join(_row(page.name, page.title, pages.get(page.name)) for page in PAGES)
    lab = (
        "<p>Made in the lab: real Triton, S3, tensors and tokens; the engine is compiled for a CPU by OpenVINO, "
        "not by TensorRT-LLM for a GPU.</p>"
        if about.get("track", about.get("target")) == "lab"
        else ""
    )
    head = html.escape(run.id)
    status = html.escape(str(about.get("status")))
    folders = "".join(
        f"<li><a href='{name}/'>{name}/</a></li>"
        for name in ("artifacts", "data", "logs")
        if (run.folder / name).is_dir()
    )
    text = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{head}</title><style>{STYLE}</style>"
        f"<h1>{head}</h1><p>Profile <b>{html.escape(str(about.get('profile')))}</b>, started "
        f"{html.escape(str(about.get('started')))}: <b class='{status}'>{status}</b></p>{lab}"
        f"<table><tr><th>page</th><th>ended</th><th>seconds</th><th></th></tr>{rows}</table>"
        f"<p>Unsigned. Check it: <code>runbook record verify {head}</code></p><ul>{folders}</ul></html>\n"
    )
    write_whole(run.folder / "index.html", text)


def _row(name: str, title: str, known: dict[str, object] | None) -> str:
    known = {"status": "not_run", "seconds": "", "reason": ""} | (known or {})
    status = html.escape(str(known["status"]))
    link = (
        html.escape(title)
        if status == "not_run"
        else f"<a href='{name}.html'>{html.escape(title)}</a>"
    )
    reason = (
        f"<pre>{html.escape(str(known['reason']))}</pre>"
        if known["reason"] and status == "failed"
        else ""
    )
    notebook = "" if status == "not_run" else f"<a href='{name}.ipynb'>notebook</a>"
    return (
        f"<tr><td>{name[:2]} {link}{reason}</td><td class='{status}'>{status}</td>"
        f"<td>{html.escape(str(known['seconds']))}</td><td>{notebook}</td></tr>"
    )
