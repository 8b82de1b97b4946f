"""A page as HTML that opens offline, with figures that stay interactive and nothing from outside.

plotly.js is 4.8 MB and a whole record shall stay under 3 MB, so a record holds it once, packed,
beside its pages (`plotly.gz.js`, about 2 MB: a script, because a page opened from a disk may load
scripts but not fetch files). A figure's PNG stands in the page itself: it is what shows with
JavaScript off, in an old browser, or where a page was copied away without that file.
"""

from __future__ import annotations

import base64
import gzip
import html as markup
import json
import re
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
.jp-InputArea-editor,.input_area{background:var(--soft);border:1px solid var(--line);border-radius:6px;padding:.2rem .7rem}
.jp-InputPrompt,.jp-OutputPrompt,.prompt,.anchor-link{display:none}
.output_error,[data-mime-type="application/vnd.jupyter.stderr"]{border-left:4px solid var(--red);padding-left:.7rem}
table{border-collapse:collapse}td,th{border-bottom:1px solid var(--line);padding:.25rem .6rem;text-align:right}
img{max-width:100%;height:auto}.figure{overflow-x:auto}
.verdict{border:1px solid var(--line);border-left:6px solid #1a7f37;padding:.4rem .8rem;border-radius:4px}
.verdict.red{border-left-color:var(--red)}
"""

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
    except (OSError, ValueError) as error:
        raise RecordError(
            f"The page {html.name} can't be written.",
            why=str(error),
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
    body, _ = exporter.from_notebook_node(nbformat.from_dict(notebook))
    return str(body)


def _take_figures(notebook: dict[str, Any]) -> dict[str, str]:
    """Put a mark in the place of each plotly output; the figure's HTML by its mark."""
    found: dict[str, str] = {}
    for cell in notebook.get("cells", []):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                mark = f"runbook-figure-{len(found)}-{cell.get('id', 'x')}-end"
                found[mark] = _figure(data)
                output["data"] = {"text/html": mark}
                output["metadata"] = {}
    return found


def _figure(data: Mapping[str, Any]) -> str:
    picture = data.get("image/png")
    picture = "".join(picture) if isinstance(picture, list) else picture
    still = (
        f'<img class="still" alt="figure" src="data:image/png;base64,{picture.strip()}">'
        if picture
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


_REMOTE = re.compile(
    r"""<script\b[^>]*\bsrc\s*=\s*["']?(?:https?:)?//[^>]*>\s*</script>"""
    r"""|<link\b[^>]*\bhref\s*=\s*["']?(?:https?:)?//[^>]*>""",
    re.IGNORECASE,
)


def _offline(body: str) -> str:
    """Without scripts and style sheets from elsewhere, which an output may ask for."""
    return _REMOTE.sub("", body)


def _packed_plotly() -> str:
    """plotly.js of the installed package, packed into a script: the same bytes at each call."""
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return f'window.PLOTLY_GZ="{base64.b64encode(packed).decode()}";\n'
