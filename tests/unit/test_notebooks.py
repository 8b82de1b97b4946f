"""The pages as they are committed: thin, clean, true to the schema, and calling only what exists."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from runbook_lib.parameters import PAGES, page_named, parameters_cell

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
NAMES = [page.name for page in PAGES]
LONGEST_CELL = 10

every_page = pytest.mark.parametrize("name", NAMES)


@functools.cache
def text_of(name):
    return (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")


@functools.cache
def notebook(name):
    return nbformat.reads(text_of(name), as_version=nbformat.NO_CONVERT)


def code_cells(name):
    return [cell for cell in notebook(name).cells if cell.cell_type == "code"]


def code_of(name):
    return "\n\n".join(cell.source for cell in code_cells(name)) + "\n"


def nodes_of(name):
    return list(ast.walk(ast.parse(code_of(name))))


def test_every_page_of_the_schema_is_a_notebook_and_no_other_is():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES


@every_page
def test_a_page_is_a_valid_notebook_for_the_python3_kernel(name):
    page = notebook(name)
    nbformat.validate(page)
    assert (page.nbformat, page.nbformat_minor) == (4, 5)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    assert page.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}


@every_page
def test_opening_and_saving_a_page_changes_nothing(name):
    """Ids too: nbformat gives a new one to a cell that has none."""
    again = nbformat.writes(nbformat.reads(text_of(name), as_version=4))
    assert again.rstrip("\n") == text_of(name).rstrip("\n")


def test_no_two_cells_share_an_id():
    ids = [cell.id for name in NAMES for cell in notebook(name).cells]
    assert len(ids) == len(set(ids))


@every_page
def test_a_page_carries_nothing_of_a_run(name):
    for cell in code_cells(name):
        assert (cell.outputs, cell.execution_count) == ([], None), cell.source
    for cell in notebook(name).cells:
        assert cell.metadata.keys() <= {"tags"}, cell.source


# -- what a page says ------------------------------------------------------------------------------


@every_page
def test_the_title_says_what_the_page_does_and_changes(name):
    page, title = page_named(name), notebook(name).cells[0]
    assert title.cell_type == "markdown"
    assert title.source.startswith(f"# {name[:2]} · {page.title}\n")
    assert page.effect in title.source
    assert f"**Changes:** {page.changes} ·" in title.source
    assert f"about {page.seconds} s" in title.source


@every_page
def test_the_title_links_to_its_neighbours_and_to_help(name):
    links = dict(re.findall(r"\[(\w+)\]\(([^)]+)\)", notebook(name).cells[0].source))
    place = NAMES.index(name)
    wanted = {"troubleshoot": "06_troubleshoot.ipynb"}
    if place > 0:
        wanted["previous"] = f"{NAMES[place - 1]}.ipynb"
    if place + 1 < len(NAMES):
        wanted["next"] = f"{NAMES[place + 1]}.ipynb"
    assert links == wanted


@every_page
def test_every_link_of_a_page_leads_to_a_file(name):
    told = "\n".join(cell.source for cell in notebook(name).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", told):
        assert (NOTEBOOKS / target).exists(), target


@every_page
def test_the_parameters_cell_is_the_one_that_the_schema_makes(name):
    tagged = [cell for cell in code_cells(name) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == [code_cells(name)[0]]
    assert tagged[0].source == parameters_cell(page_named(name))


@every_page
def test_every_parameter_reaches_the_page(name):
    (call,) = (
        node
        for node in nodes_of(name)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "open_page"
    )
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    assert [ast.literal_eval(one) for one in call.args] == [name]
    assert given == {one.name: one.name for one in page_named(name).parameters}


@every_page
def test_no_cell_overwrites_a_parameter(name):
    """Else a cell further up, run again, would be given another value than the parameter's."""
    later = "\n".join(cell.source for cell in code_cells(name)[1:])
    bound = set()
    for node in ast.walk(ast.parse(later)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        if isinstance(node, ast.alias):
            bound.add(node.asname or node.name)
    assert bound & {one.name for one in page_named(name).parameters} == set()


# -- what a page does ------------------------------------------------------------------------------


@every_page
def test_cells_are_short_and_define_nothing(name):
    for cell in code_cells(name):
        assert 1 <= len(cell.source.splitlines()) <= LONGEST_CELL, cell.source
    heavy = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try, ast.TryStar, ast.Lambda)
    assert [ast.unparse(node) for node in nodes_of(name) if isinstance(node, heavy)] == []


@every_page
def test_a_page_imports_by_name_and_only_the_library(name):
    for node in nodes_of(name):
        assert not isinstance(node, ast.Import), ast.unparse(node)
        if isinstance(node, ast.ImportFrom):
            assert node.module.partition(".")[0] == "runbook_lib", ast.unparse(node)
            assert [one.name for one in node.names] != ["*"], ast.unparse(node)


def imported(name):
    """What each name imported by a page stands for; a name that can't be imported fails here."""
    found = {}
    for node in nodes_of(name):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = importlib.import_module(node.module)
        for one in node.names:
            if not hasattr(module, one.name):
                importlib.import_module(f"{node.module}.{one.name}")
            found[one.asname or one.name] = getattr(module, one.name)
    return found


@every_page
def test_everything_that_a_page_names_of_the_library_is_there(name):
    things = imported(name)
    for node in nodes_of(name):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            thing = things.get(node.value.id)
            assert thing is None or hasattr(thing, node.attr), ast.unparse(node)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """Every page as one script."""
    folder = tmp_path_factory.mktemp("pages")
    for name in NAMES:
        (folder / f"page_{name}.py").write_text(code_of(name), encoding="utf-8")
    return folder


def complaints(tool, *options):
    said = subprocess.run(
        [sys.executable, "-m", tool, *options], cwd=ROOT, capture_output=True, text=True
    )
    assert said.returncode in {0, 1}, said.stderr
    return re.findall(r"^.*(page_\w+\.py:\d+:.*)$", said.stdout, re.MULTILINE)


def test_every_name_of_a_page_is_bound_and_used(scripts):
    options = ("--isolated", "--no-cache", "--select=F", "--output-format=concise")
    assert complaints("ruff", "check", *options, str(scripts)) == []


def test_pages_call_the_library_as_it_wants_to_be_called(scripts):
    """Types are known from the call of `open_page` on, so this sees wrong arguments as well."""
    pages = map(str, sorted(scripts.glob("*.py")))
    assert complaints("mypy", "--no-error-summary", "--hide-error-context", *pages) == []
