"""A page as HTML that opens offline, with figures that stay interactive and nothing from outside.

plotly.js is 4.8 MB and a whole record shall stay under 3 MB, so a record holds it once, packed,
beside its pages (`plotly.gz.js`, about 2 MB: a script, because a page opened from a disk may load
scripts but not fetch files). A figure's PNG stands in the page itself: it is what shows with
JavaScript off, in an old browser, or where a page was copied away without that file.
"""

from __future__ import annotations

import base64
import functools
import gzip
import html as markup
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from runbook_lib.errors import RecordError
from runbook_lib.files import write_whole

__all__ = ["PLOTLY_FILE", "to_html"]

PLOTLY_FILE: Final = "plotly.gz.js"
PLOTLY: Final = "application/vnd.plotly.v1+json"

_STYLE: Final = """
:root{color-scheme:light dark;--line:#d0d7de;--soft:#f6f8fa;--red:#b3261e;--faint:#57606a}
@media(prefers-color-scheme:dark){:root{--line:#3d444d;--soft:#161b22;--red:#ff7b72;--faint:#9198a1}}
body{font:16px/1.55 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
pre,code{font:13px/1.45 ui-monospace,monospace}
pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.3rem 0}
.jp-InputArea-editor,.input_area{background:var(--soft);border:1px solid var(--line)}
.jp-InputArea-editor,.input_area{border-radius:6px;padding:.2rem .7rem}
.jp-InputPrompt,.jp-OutputPrompt,.prompt,.anchor-link{display:none}
.output_error,[data-mime-type="application/vnd.jupyter.stderr"]{border-left:4px solid var(--red);padding-left:.7rem}
table{border-collapse:collapse}td,th{border-bottom:1px solid var(--line);padding:.25rem .6rem;text-align:right}
img{max-width:100%;height:auto}.figure{overflow-x:auto}
.verdict{border:1px solid var(--line);border-left:6px solid #1a7f37;padding:.4rem .8rem;border-radius:4px}
.verdict.red{border-left-color:var(--red)}
"""

# What a browser may load for the page: what stands in it, and the script beside it.
_POLICY: Final = (
    "default-src 'none'; img-src data: blob:; media-src data:; font-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline' 'self' file:; base-uri 'none'; "
    "form-action 'none'"
)

_DRAW: Final = """
(async()=>{
const holders=[...document.querySelectorAll(".figure")];
if(!window.PLOTLY_GZ||!window.DecompressionStream)return;
const bytes=Uint8Array.from(atob(window.PLOTLY_GZ),c=>c.charCodeAt(0));
const flow=new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
const script=document.createElement("script");
script.textContent=await new Response(flow).text();
document.head.append(script);
for(const holder of holders){
const told=JSON.parse(holder.querySelector("script").textContent);
const place=document.createElement("div");
holder.prepend(place);
try{
await Plotly.newPlot(place,told.data,told.layout||{},{responsive:true,plotlyServerURL:"",...told.config});
holder.querySelector(".still")?.remove();
}catch(error){place.remove();console.error(error);}
}})();
"""


def to_html(ipynb: Path, html: Path) -> None:
    """Write a notebook as an HTML page, and plotly.js beside it when the page has figures.

    Raises:
        RecordError: the notebook can't be read, or the page can't be written.
    """
    try:
        notebook = json.loads(ipynb.read_bytes())
        text, figures = _page(notebook, title=ipynb.stem)
        if figures and not (html.parent / PLOTLY_FILE).exists():
            write_whole(html.parent / PLOTLY_FILE, _packed_plotly())
        write_whole(html, text)
    except Exception as error:  # nbconvert raises what it likes at a file that is no notebook
        raise RecordError(
            f"The page {html.name} can't be written.",
            why=f"{type(error).__name__}: {error}",
            fix="Check that the notebook is whole and that there is space, then run the page again.",
        ) from error


def _page(notebook: dict[str, Any], *, title: str) -> tuple[str, int]:
    """The whole page, and how many figures it draws."""
    figures = _take_figures(notebook)
    body = _offline(_body(notebook))
    for mark, figure in figures.items():
        body = body.replace(mark, figure)
    scripts = f'<script src="{PLOTLY_FILE}"></script><script>{_DRAW}</script>' if figures else ""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{markup.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{_verdict(notebook)}<main>{body}</main>{scripts}</body></html>\n"
    )
    return text, len(figures)


def _body(notebook: dict[str, Any]) -> str:
    import nbformat
    from nbconvert import HTMLExporter

    notebook["metadata"].pop("widgets", None)
    exporter = HTMLExporter(template_name="basic", sanitize_html=False)
    body, _ = exporter.from_notebook_node(nbformat.reads(json.dumps(notebook), as_version=4))
    return str(body)


def _take_figures(notebook: dict[str, Any]) -> dict[str, str]:
    """Put a mark in the place of each plotly output; the figure's HTML by its mark."""
    found: dict[str, str] = {}
    chance = secrets.token_hex(8)  # no text of the page can hold a mark
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                mark = f"runbook-figure-{chance}-{len(found)}-end"
                told = output.get("metadata", {}).get("image/png", {}).get("alt", "figure")
                found[mark] = _figure(data, markup.escape(str(told)))
                output["data"] = {"text/html": mark}
                output["metadata"] = {}
    return found


def _figure(data: Mapping[str, Any], text: str) -> str:
    picture = data.get("image/png")
    picture = "".join("".join(picture or "").split())
    still = (
        f'<img class="still" alt="{text}" src="data:image/png;base64,{picture}">'
        if _BASE64.fullmatch(picture)
        else '<p class="still">This figure has no still picture; it shows with JavaScript on.</p>'
    )
    return f'<div class="figure">{still}<script type="application/json">{_in_script(data[PLOTLY])}</script></div>'


def _in_script(value: Any) -> str:
    """JSON that can stand in a script element: it can't end it, nor open a comment."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _verdict(notebook: Mapping[str, Any]) -> str:
    """How the page ended, above everything else; nothing for a notebook that was never run."""
    if "papermill" not in notebook.get("metadata", {}):
        return ""
    from runbook_lib.record.outcome import judge

    outcome = judge(notebook)
    kind = "verdict" if outcome.ok else "verdict red"
    return f'<p class="{kind}" role="status"><b>{outcome.status}</b>: {markup.escape(outcome.text())}</p>'


_BASE64 = re.compile(r"[A-Za-z0-9+/]+=*")
_TAG = re.compile(r"<(?!a\b)[a-z](?:[^<>\"']|\"[^\"]*\"|'[^']*')*>", re.IGNORECASE)
_FROM_OUTSIDE = re.compile(
    r"""[\s"'](?:src|srcset|href|xlink:href|poster|data)\s*=\s*(?:"\s*(?:https?:)?//[^"]*"|'\s*(?:https?:)?//[^']*'|(?:https?:)?//[^\s>]*)""",
    re.IGNORECASE,
)


def _offline(body: str) -> str:
    """Without scripts, pictures and styles from elsewhere, which an output may ask for.

    Links to click on stay. The page's policy would refuse to load the others; without them a
    reader sees that nothing is asked for.
    """
    return _TAG.sub(lambda tag: _FROM_OUTSIDE.sub("", tag[0]), body)


@functools.cache
def _packed_plotly() -> str:
    """plotly.js of the installed package, packed into a script: the same bytes at each call."""
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return f'window.PLOTLY_GZ="{base64.b64encode(packed).decode()}";\n'
