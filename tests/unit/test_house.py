"""The rules of the house: who may import whom, what a module shows, what no file may name."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "runbook_lib"

# Run by other interpreters, their neighbours imported by bare name; no part of the package.
SCRIPTS = (
    "lab/builder/",
    "lab/training/",
    "lab/triton_models/",
    "repository/skeleton_models/",
    "repository/triton_models/",
)

STAGES = ("plan", "engine", "repository", "serving", "bench", "diagnose")
# From the bottom; a module may import its own row and those before it, but no stage another.
LAYERS = (
    ("errors",),
    ("values",),
    ("artifacts",),
    ("changes", "files", "masking", "places", "hardware", "parameters", "profile"),
    ("kube",),
    STAGES,
    ("ui",),
    ("lab",),
    ("targets",),
    ("study",),
    ("record",),
    ("cli",),
)
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}
DRAWING = {"plotly", "ipywidgets", "matplotlib"}
# The offline page carries plotly.js once, and plotly's own package is where that file lies.
DRAWING_ELSEWHERE = {("record/export.py", "plotly")}
HEAVY = {
    "aiohttp",
    "boto3",
    "kubernetes",
    "matplotlib",
    "nbformat",
    "numpy",
    "pandas",
    "papermill",
    "plotly",
    "pydantic",
    "re2",
    "tritonclient",
}
LONGEST = 400


def of_package():
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


MODULES = [path for path in of_package() if not path.startswith(SCRIPTS)]


@functools.cache
def tree_of(path):
    return ast.parse((PACKAGE / path).read_text(encoding="utf-8"))


def room_of(module):
    """`runbook_lib.profile_yaml` belongs to profile, as `profile_yaml.py`; `lab/s3.py` to lab."""
    name = module.removeprefix("runbook_lib").lstrip(".")
    first = re.split(r"[./]", name.removesuffix(".py"))[0]
    word = first.partition("_")[0]
    return word if word in HEIGHT else first


def imports_of(path):
    """Every import, also inside functions and for types only: (line, module, at the top)."""
    tree = tree_of(path)
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} imports relative to itself"
            # `from runbook_lib import ui` names a room; deeper, the first two words are enough.
            alone = node.module == "runbook_lib"
            names = [f"runbook_lib.{one.name}" for one in node.names] if alone else [node.module]
        else:
            continue
        for name in names:
            yield node.lineno, name, id(node) in top


def own_imports(path):
    for line, name, top in imports_of(path):
        if name.partition(".")[0] == "runbook_lib" and room_of(name):
            yield f"runbook_lib/{path}:{line} imports {name}", room_of(name), top


def test_every_room_has_its_place_in_the_order():
    rooms = {room_of(path) for path in MODULES} - {"__init__"}
    assert rooms - HEIGHT.keys() == set()


def test_imports_run_downwards_only():
    wrong = [
        said
        for path in MODULES
        for said, target, _ in own_imports(path)
        if HEIGHT.get(target, 0) > HEIGHT.get(room_of(path), 0)
    ]
    assert wrong == []


def test_no_stage_imports_another_stage():
    wrong = [
        said
        for path in MODULES
        if room_of(path) in STAGES
        for said, target, _ in own_imports(path)
        if target in STAGES and target != room_of(path)
    ]
    assert wrong == []


def test_figures_know_no_stage_but_what_a_benchmark_recorded():
    wrong = [
        said
        for path in MODULES
        if room_of(path) == "ui"
        for said, target, _ in own_imports(path)
        if target in STAGES and target != "bench"
    ]
    assert wrong == []


def test_the_lab_loads_what_draws_only_when_it_draws():
    wrong = [
        said
        for path in MODULES
        if room_of(path) == "lab"
        for said, target, top in own_imports(path)
        if target == "ui" and top
    ]
    assert wrong == []


def test_scripts_of_other_interpreters_do_not_import_the_package():
    scripts = [path for path in of_package() if path.startswith(SCRIPTS)]
    assert [said for path in scripts for said, _, _ in own_imports(path)] == []


def test_only_the_ui_draws():
    wrong = [
        f"runbook_lib/{path}:{line} imports {name}"
        for path in MODULES
        if room_of(path) != "ui"
        for line, name, _ in imports_of(path)
        if (library := name.partition(".")[0]) in DRAWING
        and (path, library) not in DRAWING_ELSEWHERE
    ]
    assert wrong == []


def test_every_room_is_a_package_and_not_just_a_folder():
    folders = {Path(path).parent for path in MODULES}
    assert [
        str(one) for one in sorted(folders) if not (PACKAGE / one / "__init__.py").exists()
    ] == []


@pytest.mark.parametrize("path", of_package())
def test_a_module_says_what_it_is_and_what_it_offers(path):
    body = tree_of(path).body
    assert ast.get_docstring(tree_of(path)), "no docstring"
    if path.startswith(SCRIPTS) or (path.endswith("__init__.py") and len(body) == 1):
        return  # nobody imports a script, and a room's sentence offers nothing by itself
    offered = [
        ast.literal_eval(node.value)
        for node in body
        if isinstance(node, ast.Assign) and names_bound(node) == {"__all__"}
    ]
    assert len(offered) == 1, "no __all__"
    bound = set[str]().union(*(names_bound(node) for node in body))
    assert set(offered[0]) - bound == set()


def names_bound(node):
    """The names that a statement at the top of a module binds."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import() | ast.ImportFrom():
            return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        case ast.Assign() | ast.AnnAssign() | ast.If() | ast.Try() | ast.With() | ast.For():
            return {
                one.id
                for one in ast.walk(node)
                if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)
            }
    return set()


def test_no_module_is_too_long_to_be_read_in_one_go():
    lines = {path: (PACKAGE / path).read_text("utf-8").count("\n") for path in of_package()}
    assert {path: count for path, count in lines.items() if count > LONGEST} == {}


def test_the_command_line_starts_without_the_heavy_libraries():
    code = "import json, sys, runbook_lib.cli; print(json.dumps(sorted(sys.modules)))"
    argv = [sys.executable, "-c", code]
    said = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert HEAVY & set(json.loads(said.stdout)) == set()


def test_every_error_is_drawn_in_the_tree():
    bases = {
        node.name: {one.id for one in node.bases if isinstance(one, ast.Name)}
        for path in MODULES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ClassDef)
    }

    def in_family(name):
        return name == "RunbookError" or any(map(in_family, bases.get(name, ())))

    family = {name for name in bases if in_family(name)}
    drawing = re.findall(r"^ *((?:│ *)?)(?:[├└]── )?(\w+Error)  ", errors_docstring(), re.MULTILINE)
    assert {name for _, name in drawing} == family
    nested = {name for deeper, name in drawing if deeper}
    assert nested == {
        name for name in family - {"RunbookError"} if "RunbookError" not in bases[name]
    }


def errors_docstring():
    return ast.get_docstring(tree_of("errors.py"))


# -- what no file may name -------------------------------------------------------------------------

PRIVATE = re.compile(r"/(?:work|home/\w+|Users/\w+)/|\.{2}/shared\b")
REGISTRY = re.compile(
    r"[\w.-]*(?:pypi|pythonhosted|npmjs|crates)\.(?:org|com|io)\b"
    r"|https?://[^\s\"'/]+/(?:[^\s\"']*/)?\+?simple\b"
    r"|proxy\.golang\.org"
    r"|--(?:extra-|default-)?index\b|\bindex-url\b|(?:UV|PIP)_(?:\w+_)?INDEX"
)
# uv writes the registry of every package into its lock: these two, and no mirror.
PUBLIC = {
    f"https://{host}.org{path}" for host, path in (("pypi", "/simple"), ("files.pythonhosted", ""))
}


@functools.cache
def committed():
    if not (ROOT / ".git").exists():
        pytest.skip("only a checkout tells which files are the repository's")
    argv = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8", errors="replace")
        for path in files
        if path.is_file()
    }


def named(pattern, leave_out):
    this = Path(__file__).relative_to(ROOT).as_posix()
    return [
        f"{name}: {found[0]}"
        for name, text in committed().items()
        if name not in {this, *leave_out}
        for found in pattern.finditer(text)
    ]


def test_no_file_names_a_folder_of_somebodys_machine():
    """But for the lines of public threads, which are quoted as they were said there."""
    quoted = {name for name in committed() if name.startswith("runbook_lib/diagnose/rules/")}
    assert named(PRIVATE, leave_out=quoted) == []


def test_no_file_names_a_package_registry():
    assert named(REGISTRY, leave_out={"uv.lock"}) == []


def test_the_lock_names_the_public_registry_and_no_mirror():
    lock = committed()["uv.lock"]
    registries = set(re.findall(r"registry = \"([^\"]+)\"", lock))
    files = set(re.findall(r"url = \"(https?://[^/\"]+)", lock))
    assert registries | files == PUBLIC
