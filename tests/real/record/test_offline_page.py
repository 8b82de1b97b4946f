"""The HTML twin of a page, opened from a disk by a browser that reaches nothing else."""

import shutil
import socket

import pytest

from runbook_lib.record.export import PLOTLY_FILE, to_html
from runbook_lib.record.runner import run_notebook

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FIGURE = (
    "from runbook_lib.ui.bundle import show\n"
    "show({'data': [{'type': 'bar', 'x': ['one', 'two'], 'y': [1, 2]}], 'layout': {'title': {'text': 'Twins'}}})"
)
CALLS_HOME = (
    "from IPython.display import HTML\n"
    'HTML(\'<p id=said></p><script>fetch("http://HOME/").catch('
    '() => { document.getElementById("said").textContent = "refused"; });'
    'new Image().src = "http://HOME/x.png";</script>\')'
)


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        pytest.skip("there is no chromium here (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def home():
    """What a cell's output would like to talk to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture(scope="module")
def record(tmp_path_factory, home):
    """A page with a figure, run for good and exported."""
    import nbformat

    folder = tmp_path_factory.mktemp("record")
    calls = CALLS_HOME.replace("HOME", f"127.0.0.1:{home.getsockname()[1]}")
    cells = [nbformat.v4.new_code_cell(source) for source in (FIGURE, calls)]
    kernel = {"name": "python3", "display_name": "python3", "language": "python"}
    nb = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(nb, folder / "in.ipynb")
    outcome = run_notebook(folder / "in.ipynb", folder / "page.ipynb", parameters={})
    assert outcome.ok, outcome.text()
    to_html(folder / "page.ipynb", folder / "page.html")
    return folder


@pytest.fixture
def opened(chromium):
    """Open a page; with it, every address that it asked for."""
    made = []

    def open_page(path, **options):
        context = chromium.new_context(**options)
        made.append(context)
        page, asked = context.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page, asked

    yield open_page
    for context in made:
        context.close()


def test_a_figure_is_interactive_offline(opened, record):
    page, asked = opened(record / "page.html")
    page.wait_for_selector(".figure .main-svg")
    assert page.locator(".figure .still").count() == 0
    assert page.locator(".figure .gtitle").text_content() == "Twins"
    assert page.locator(".verdict").inner_text() == "completed: all 2 cells completed"
    files = [url for url in asked if url.startswith("file:")]
    assert files == [(record / name).as_uri() for name in ("page.html", PLOTLY_FILE)]


def test_what_a_cell_put_out_reaches_nothing(opened, record, home):
    page, _ = opened(record / "page.html")
    page.wait_for_function("document.getElementById('said').textContent === 'refused'")
    page.wait_for_load_state("load")
    with pytest.raises(BlockingIOError):
        home.accept()


def test_without_scripts_a_figure_is_its_picture(opened, record):
    page, _ = opened(record / "page.html", java_script_enabled=False)
    assert page.locator(".figure img.still").bounding_box()["height"] > 50


def test_a_page_that_was_copied_away_alone_shows_the_picture(opened, record, tmp_path):
    alone = tmp_path / "page.html"
    shutil.copy(record / "page.html", alone)
    page, _ = opened(alone)
    assert page.locator(".figure img.still").bounding_box()["height"] > 50
    assert page.locator(".figure .main-svg").count() == 0
