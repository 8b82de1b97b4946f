import base64
import gzip
import json
import re

import nbformat
import pytest

from runbook_lib.errors import RecordError
from runbook_lib.record.export import PLOTLY_FILE, to_html

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0123").decode()
FIGURE = {"data": [{"type": "bar", "x": ["a"], "y": [1]}], "layout": {}}
SCRIPT = "<script>alert(1)</script>"


def code(*outputs, **metadata):
    made = [nbformat.v4.new_output(**output) for output in outputs]
    return nbformat.v4.new_code_cell("1", outputs=made, metadata=metadata)


def shown(data, **metadata):
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def plot(figure=FIGURE, picture=PNG, **metadata):
    still = {"image/png": picture} if picture else {}
    return shown({"application/vnd.plotly.v1+json": figure, "text/plain": "f"} | still, **metadata)


@pytest.fixture
def html(tmp_path):
    """A notebook of these cells as a page."""

    def make(*cells, **metadata):
        nb = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
        nbformat.write(nb, tmp_path / "page.ipynb")
        to_html(tmp_path / "page.ipynb", tmp_path / "page.html")
        return (tmp_path / "page.html").read_text()

    return make


def test_text_that_a_cell_put_out_is_text(html):
    stream = {"output_type": "stream", "name": "stdout", "text": SCRIPT}
    error = {"output_type": "error", "ename": SCRIPT, "evalue": SCRIPT, "traceback": [SCRIPT]}
    page = html(code(stream, shown({"text/plain": SCRIPT}), error))
    assert SCRIPT not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3


def test_a_verdict_and_a_title_are_text(html, tmp_path):
    reason = {"status": "failed", "reason": SCRIPT}
    page = html(code(), papermill={}, runbook=reason)
    assert '<p class="verdict red" role="status"><b>failed</b>: the page failed: &lt;script' in page
    (tmp_path / "<b>.ipynb").write_text((tmp_path / "page.ipynb").read_text())
    to_html(tmp_path / "<b>.ipynb", tmp_path / "b.html")
    assert "<title>&lt;b&gt;</title>" in (tmp_path / "b.html").read_text()


def test_the_verdict_is_the_pages_own_and_not_papermills(html):
    claim = {"status": "completed", "exception": False}
    answered = {"execution": {"shell.execute_reply": "2026-01-01T00:00:00Z"}}
    assert "<b>not_run</b>" in html(code(papermill=claim), papermill=claim)
    assert "<b>completed</b>: all 1 cells completed" in html(code(**answered), papermill=claim)
    assert 'role="status"' not in html(code())


def test_a_figures_text_can_not_end_its_script(html):
    evil = {"data": [], "layout": {"title": f"</script>{SCRIPT}<!--<script>"}}
    page = html(code(plot(evil)))
    assert SCRIPT not in page
    told = re.search(r'<script type="application/json">(.*?)</script>', page)[1]
    assert json.loads(told) == evil


@pytest.mark.parametrize("picture", [f'"><script>{SCRIPT}', "", "not base64!"])
def test_a_picture_that_is_none_is_not_put_into_the_page(html, picture):
    page = html(code(plot(picture=picture)))
    assert SCRIPT not in page
    assert "This figure has no still picture" in page


def test_a_figure_shows_its_picture_and_says_what_it_shows(html):
    page = html(code(plot(**{"image/png": {"alt": 'a "bar"'}})))
    assert f'alt="a &quot;bar&quot;" src="data:image/png;base64,{PNG}"' in page


def test_each_figure_stands_where_it_was_shown(html):
    figures = [{"data": [], "layout": {"title": f"figure-{n}"}} for n in range(12)]
    page = html(*(code(plot(figure)) for figure in figures))
    assert re.findall(r"figure-\d+", page) == [f"figure-{n}" for n in range(12)]
    assert "-end" not in page.partition("<main>")[2].partition("<script src")[0]


def test_plotly_lies_once_beside_the_pages_and_only_where_there_are_figures(html, tmp_path):
    html(code())
    assert not (tmp_path / PLOTLY_FILE).exists()
    html(code(plot()))
    packed = (tmp_path / PLOTLY_FILE).read_text().removeprefix('window.PLOTLY_GZ="')
    assert b"plotly.js" in gzip.decompress(base64.b64decode(packed.removesuffix('";\n')))[:200]
    assert (tmp_path / PLOTLY_FILE).stat().st_size < 2_500_000
    assert (tmp_path / "page.html").stat().st_size < 20_000


OUTSIDE = [
    '<script src="https://cdn.example/x.js"></script>',
    "<SCRIPT defer SRC = '//cdn.example/x.js' ></SCRIPT>",
    "<script src=http://cdn.example/x.js></script>",
    '<link rel="stylesheet" href="https://cdn.example/x.css">',
    '<img alt="a > b" src="https://cdn.example/x.png">',
    '<img srcset="https://cdn.example/x.png 2x">',
    '<iframe src="//cdn.example/"></iframe>',
    '<video poster="https://cdn.example/x.png"></video>',
    '<object data="https://cdn.example/x"></object>',
    '<svg><image xlink:href="https://cdn.example/x.png"/></svg>',
]


@pytest.mark.parametrize("tag", OUTSIDE)
def test_nothing_is_asked_for_from_outside(html, tag):
    page = html(code(shown({"text/html": f"<p>{tag}</p>"})), nbformat.v4.new_markdown_cell(tag))
    assert "cdn.example" not in page
    assert "default-src 'none'" in page


def test_links_to_click_on_and_code_stay(html):
    link = '<a href="https://example.org/">see</a>'
    source = nbformat.v4.new_code_cell("'<img src=\"https://x.example/\">'")
    page = html(
        code(shown({"text/html": link})), nbformat.v4.new_markdown_cell("[m](next.html)"), source
    )
    assert link in page
    assert 'href="next.html"' in page
    assert "https://x.example/" in page


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": 3, "metadata": {}}', "{'"])
def test_a_file_that_is_no_notebook_is_told(tmp_path, text):
    (tmp_path / "page.ipynb").write_text(text)
    with pytest.raises(RecordError, match=r"page\.html can't be written") as caught:
        to_html(tmp_path / "page.ipynb", tmp_path / "page.html")
    assert caught.value.why
    assert caught.value.fix
    assert not (tmp_path / "page.html").exists()
