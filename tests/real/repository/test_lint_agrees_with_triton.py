"""Small repositories, each judged by the lint and by a real Triton: both must agree.

`~` stands for a prefix of each tree's own, so that one server can judge them side by side: it
starts whatever they do, and a tree loads when each of its folders has a model that is ready and
nothing that is not. That this is the verdict of strict readiness is tried on some of them alone.
A tree whose rule is empty loads; the others name the rule that must explain the refusal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.errors import ServiceError
from runbook_lib.lab import environment
from runbook_lib.repository.lint import lint
from runbook_lib.serving.supervise import Owner, stop
from runbook_lib.serving.triton import post_json, start_triton

Tree = Mapping[str, str | bytes | None]
TREES: dict[str, tuple[str, Tree]] = {}

CODE = "class TritonPythonModel:\n    def execute(self, requests):\n        return []\n"


def tensor(
    kind: str, name: str, data_type: str = "TYPE_STRING", dims: str = "[ 1 ]", more: str = ""
) -> str:
    return f'{kind} [ {{ name: "{name}" data_type: {data_type} dims: {dims} {more} }} ]\n'


IN, OUT = tensor("input", "a"), tensor("output", "b")
HEAD = 'backend: "python"\nmax_batch_size: 4\n'
CONFIG = HEAD + IN + OUT


def model(
    config: str | bytes = CONFIG,
    code: str | bytes | None = CODE,
    name: str = "m",
    version: str = "1",
    files: Tree | None = None,
) -> dict[str, Any]:
    tree: dict[str, Any] = {f"~{name}/config.pbtxt": config}
    if code is not None:
        tree[f"~{name}/{version}/model.py"] = code
    return tree | {f"~{name}/{path}": text for path, text in (files or {}).items()}


def step(part: str, given: str, made: str, version: str = "model_version: -1") -> str:
    def maps(kind: str, pairs: str) -> str:
        return " ".join(
            '{}_map {{ key: "{}" value: "{}" }}'.format(kind, *pair.split("="))
            for pair in pairs.split()
        )

    return f'{{ model_name: "{part}" {version} {maps("input", given)} {maps("output", made)} }}'


def ensemble(
    *steps: str,
    given: str = tensor("input", "x"),
    made: str = tensor("output", "y"),
    batch: int = 4,
    more: str = "",
    name: str = "e",
    files: Tree | None = None,
) -> dict[str, Any]:
    config = (
        f'platform: "ensemble"\nmax_batch_size: {batch}\n{given}{made}{more}\n'
        f"ensemble_scheduling {{ step [ {', '.join(steps)} ] }}\n"
    )
    content: Tree = {"1/placeholder.txt": "x"} if files is None else files
    return model(config, None, name, files=content)


def loads(what: str, tree: Tree) -> None:
    TREES[what] = ("", tree)


def refused(what: str, rule: str, tree: Tree) -> None:
    TREES[what] = (rule, tree)


M = model()
# One model that many trees share: the server loads it once.
PART: dict[str, Any] = {"part/config.pbtxt": CONFIG, "part/1/model.py": CODE}
ONE = step("part", "a=x", "b=y")
MINE = step("~m", "a=x", "b=y")
TWO_INPUTS = HEAD + IN + tensor("input", "c") + OUT
N = model(TWO_INPUTS, name="n")
DECOUPLED = model("model_transaction_policy { decoupled: true }\n" + CONFIG)
BROKEN = {"~m/1/x.txt": "x"}

# -- where things stand ----------------------------------------------------------------------------

loads("a model", M)
loads("a loose file beside the models", PART | {"~README.md": "x"})
loads("a name that is the folder's", model('name: "~m"\n' + CONFIG))
refused("a name that is another", "name", model('name: "other"\n' + CONFIG))
refused(
    "the guide's engine, its configuration in the version folder",
    "config_in_version",
    {"~m/1/config.pbtxt": CONFIG, "~m/1/model.plan": "x"},
)
refused(
    "the guide's ensemble, its configuration in the version folder",
    "config_in_version",
    PART | {path.replace("/config", "/1/config"): text for path, text in ensemble(ONE).items()},
)
loads(
    "a Python model whose configuration in the version folder is not missed",
    {"~m/1/config.pbtxt": CONFIG, "~m/1/model.py": CODE},
)
loads("a second configuration, wrong but not read", M | {"~m/1/config.pbtxt": "nonsense"})
refused("a folder that is no model", "not_a_model", PART | {"~data/x.txt": "x"})
refused("an empty folder", "not_a_model", PART | {"~data/": None})
refused("a hidden folder", "not_a_model", PART | {".~git/config": "x"})
refused(
    "JupyterLab's checkpoints beside the models",
    "not_a_model",
    PART | {".~ipynb_checkpoints/x": "x"},
)
loads("JupyterLab's checkpoints in a model", M | {"~m/.ipynb_checkpoints/x": "x"})

# -- versions --------------------------------------------------------------------------------------

refused("no version folder", "no_version", model(code=None))
refused("a version folder that is a file", "no_version", model(code=None, files={"1": "x"}))
refused("a version called latest", "no_version", model(version="latest"))
refused("a version called v1", "no_version", model(version="v1"))
refused("a version with a leading zero", "no_version", model(version="01"))
loads("version 0", model(version="0"))
loads("a folder of another name beside the version", M | {"~m/assets/x.txt": "x"})
loads("a folder 1a beside version 1", M | {"~m/1a/x.txt": "x"})
loads("an older version that is broken", model(version="2", files={"1/x.txt": "x"}))
loads("version 10 is newer than version 9", model(version="10", files={"9/x.txt": "x"}))
loads(
    "a policy that names a version and an absent one",
    model("version_policy { specific { versions: [1, 3] } }\n" + CONFIG),
)
refused(
    "a policy that names an absent version",
    "version_policy",
    model("version_policy { specific { versions: [3] } }\n" + CONFIG),
)
refused(
    "a policy that names no version",
    "version_policy",
    model("version_policy { specific { } }\n" + CONFIG),
)
refused(
    "a policy for the latest 0 versions",
    "version_policy",
    model("version_policy { latest { num_versions: 0 } }\n" + CONFIG),
)

# -- backends --------------------------------------------------------------------------------------

loads("no backend, but a model.py", model("max_batch_size: 4\n" + IN + OUT))
loads("an empty configuration and a model.py", model(""))
loads("no configuration and a model.py", {"~m/1/model.py": CODE})
refused(
    "no backend and no file that tells",
    "backend",
    model("max_batch_size: 4\n" + IN + OUT, None, files=BROKEN | {"1/x": "x"}),
)
refused(
    "no backend, and checkpoints before the version folder",
    "backend",
    model(IN + OUT, files={".ipynb_checkpoints/x": "x"}),
)
refused("no backend and an engine", "backend", model(IN + OUT, None, files={"1/model.plan": "x"}))
refused("python as the platform", "backend", model('platform: "python"\n' + IN + OUT))
refused("a backend of another image", "backend", model(CONFIG.replace("python", "tensorrtllm")))
refused("a backend in capitals", "backend", model(CONFIG.replace("python", "Python")))
refused("an ensemble that names a backend", "backend", model('platform: "ensemble"\n' + CONFIG))
refused(
    "steps in a model that is no ensemble", "backend", model(CONFIG + "ensemble_scheduling { }\n")
)
loads("a platform beside the Python backend", model('platform: "mine"\n' + CONFIG))

# -- code ------------------------------------------------------------------------------------------

refused("an empty model.py", "model_class", model(code=""))
refused("a syntax error", "syntax", model(code="def broken(:\n"))
refused("a return outside a function", "syntax", model(code="return 1\n" + CODE))
refused("tabs and spaces", "syntax", model(code=CODE.replace("        return", "\treturn")))
refused("a null byte", "syntax", model(code=CODE + chr(0)))
loads("a comment that is no UTF-8", model(code=b"# \xe9\n" + CODE.encode()))
refused("a class of another name", "model_class", model(code=CODE.replace("Triton", "My")))
refused(
    "a class inside a function",
    "model_class",
    model(code="def f():\n    class TritonPythonModel:\n        pass\n"),
)
loads(
    "a class by another name, then renamed",
    model(code=CODE.replace("TritonPythonModel", "A") + "TritonPythonModel = A\n"),
)
loads(
    "a class in a branch",
    model(code="try:\n    pass\nfinally:\n    " + CODE.replace("\n    ", "\n        ")),
)
loads(
    "a class from a file beside",
    model(code="from ~impl import TritonPythonModel\n", files={"1/~impl.py": CODE}),
)
loads(
    "a class from a file in the model's folder",
    model(code="from ~impl import TritonPythonModel\n", files={"~impl.py": CODE}),
)
loads(
    "a class from a file beside, by star",
    model(code="from ~impl import *\n", files={"1/~impl.py": CODE}),
)
loads("a relative import", model(code="from . import ~impl\n" + CODE, files={"1/~impl.py": ""}))
refused("a relative import of nothing", "import", model(code="from . import ~impl\n" + CODE))
loads("no execute", model(code="class TritonPythonModel:\n    pass\n"))
refused(
    "an initialize without arguments",
    "method",
    model(code=CODE + "    def initialize(self):\n        pass\n"),
)
refused(
    "an initialize that wants more",
    "method",
    model(code=CODE + "    def initialize(self, args, more):\n        pass\n"),
)
loads(
    "an initialize with a default",
    model(code=CODE + "    def initialize(self, args, more=1):\n        pass\n"),
)
loads(
    "an initialize that takes anything",
    model(code=CODE + "    def initialize(self, *args):\n        pass\n"),
)
refused(
    "a constructor with an argument",
    "method",
    model(code=CODE + "    def __init__(self, x):\n        pass\n"),
)
loads(
    "another file name",
    model('default_model_filename: "serve.py"\n' + CONFIG, None, files={"1/serve.py": CODE}),
)
refused("a model.py that is a folder", "model_py", model(code=None, files={"1/model.py/x": "x"}))
COMPLETES = (
    CODE
    + """
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "a", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "b", "data_type": "TYPE_STRING", "dims": [1]})
        return config
"""
)
loads("dims that the code completes", model(CONFIG.replace("dims: [ 1 ]", ""), COMPLETES))
refused(
    "a completion that is no static method",
    "method",
    model(code=COMPLETES.replace("    @staticmethod\n", "").replace("(config)", "(self, config)")),
)
refused(
    "a completion that returns nothing",
    "method",
    model(code=COMPLETES.replace("return config", "")),
)

# -- the configuration -----------------------------------------------------------------------------

refused("a text that is no configuration", "config", model("{{{"))
refused("an unknown field", "config", model("nonsense: 1\n" + CONFIG))
refused("a byte order mark", "config", model(b"\xef\xbb\xbf" + CONFIG.encode()))
refused(
    "an escape that C does not have",
    "config",
    model(CONFIG + 'parameters { key: "p" value: { string_value: "\\d" } }\n'),
)
loads(
    "an escape that C has",
    model(CONFIG + 'parameters { key: "p" value: { string_value: "\\\\d\\n" } }\n'),
)
refused("a placeholder for a number", "placeholder", model(CONFIG.replace("size: 4", "size: ${n}")))
loads(
    "a placeholder in a string",
    model(CONFIG + 'parameters { key: "p" value: { string_value: "${dir}" } }\n'),
)
refused("strings as TYPE_BYTES", "data_type", model(CONFIG.replace("STRING", "BYTES")))
refused("strings as TYPE_INVALID", "data_type", model(CONFIG.replace("STRING", "INVALID")))
refused("no data type", "data_type", model(CONFIG.replace("data_type: TYPE_STRING", "")))
refused("no dims", "dims", model(CONFIG.replace("dims: [ 1 ]", "")))
refused("a dimension of 0", "dims", model(CONFIG.replace("[ 1 ]", "[ 0 ]")))
refused("a dimension of -2", "dims", model(CONFIG.replace("[ 1 ]", "[ -2 ]")))
loads("a dimension of any size", model(CONFIG.replace("[ 1 ]", "[ -1 ]")))
refused("an input without a name", "tensor_name", model(CONFIG.replace('name: "a"', "")))
loads("no tensors at all", model(HEAD))
refused(
    "a reshape to another size",
    "reshape",
    model(HEAD + tensor("input", "a", more="reshape: { shape: [ 3 ] }") + OUT),
)
refused(
    "an empty reshape without batches",
    "reshape",
    model(
        CONFIG.replace("size: 4", "size: 0").replace(
            "dims: [ 1 ]", "dims: [ 1 ] reshape: { shape: [ ] }"
        )
    ),
)
loads(
    "an empty reshape in batches",
    model(HEAD + tensor("input", "a", more="reshape: { shape: [ ] }") + OUT),
)
loads(
    "a reshape around a dimension of any size",
    model(HEAD + tensor("input", "a", dims="[ -1 ]", more="reshape: { shape: [ -1, 1 ] }") + OUT),
)
refused("a negative batch", "max_batch_size", model(CONFIG.replace("size: 4", "size: -1")))
loads("no batches", model(CONFIG.replace("size: 4", "size: 0")))
loads(
    "a batcher for no batches",
    model("dynamic_batching { }\n" + CONFIG.replace("size: 4", "size: 0")),
)
refused(
    "a preferred batch above the largest",
    "preferred_batch_size",
    model("dynamic_batching { preferred_batch_size: [ 8 ] }\n" + CONFIG),
)
refused(
    "a preferred batch for no batches",
    "preferred_batch_size",
    model(
        "dynamic_batching { preferred_batch_size: [ 1 ] }\n" + CONFIG.replace("size: 4", "size: 0")
    ),
)
refused(
    "priorities without a default",
    "priority",
    model("dynamic_batching { priority_levels: 2 }\n" + CONFIG),
)
refused(
    "a sequence control without values",
    "control",
    model(
        'sequence_batching { control_input [ { name: "S" control [ { kind: CONTROL_SEQUENCE_START } ] } ] }\n'
        + CONFIG
    ),
)
refused(
    "an instance on a GPU that is not there",
    "instance_group",
    model("instance_group [ { kind: KIND_GPU } ]\n" + CONFIG),
)
refused(
    "a GPU for an instance on the CPU",
    "instance_group",
    model("instance_group [ { kind: KIND_CPU gpus: [ 0 ] } ]\n" + CONFIG),
)
loads(
    "an instance of the model's own kind",
    model("instance_group [ { kind: KIND_MODEL } ]\n" + CONFIG),
)
refused(
    "a missing label file",
    "label_file",
    model(HEAD + IN + tensor("output", "b", more='label_filename: "l.txt"')),
)
refused(
    "a missing packed environment",
    "environment",
    model(
        CONFIG
        + 'parameters { key: "EXECUTION_ENV_PATH" value: { string_value: "$$TRITON_MODEL_DIRECTORY/env.tar.gz" } }\n'
    ),
)
refused(
    "a cache for a decoupled model",
    "response_cache",
    model(
        "response_cache { enable: true }\nmodel_transaction_policy { decoupled: true }\n" + CONFIG
    ),
)
refused("a field of a newer Triton", "config", model("model_metrics { }\n" + CONFIG))
refused(
    "a repository agent that is not there",
    "repository_agent",
    model('model_repository_agents { agents [ { name: "checksum" } ] }\n' + CONFIG),
)
refused("a runtime that is not there", "runtime", model('runtime: "nope"\n' + CONFIG))

# -- ensembles -------------------------------------------------------------------------------------

loads("an ensemble", PART | ensemble(ONE))
loads(
    "an ensemble of two steps, the later first",
    PART | ensemble(step("part", "a=t", "b=y"), step("part", "a=x", "b=t")),
)
loads(
    "an ensemble of an ensemble",
    PART | ensemble(ONE) | ensemble(step("~e", "x=x", "y=y"), name="f"),
)
loads("an ensemble whose version folder is empty", PART | ensemble(ONE, files={"1/": None}))
loads(
    "an ensemble whose version folder holds an empty file",
    PART | ensemble(ONE, files={"1/keep": ""}),
)
refused("an ensemble without a version folder", "no_version", PART | ensemble(ONE, files={}))
refused(
    "a step without a version, as in the guide",
    "part_version",
    PART | ensemble(step("part", "a=x", "b=y", "")),
)
loads(
    "a step for a version that is there",
    PART | ensemble(step("part", "a=x", "b=y", "model_version: 1")),
)
refused(
    "a step for a version that is not there",
    "part_version",
    PART | ensemble(step("part", "a=x", "b=y", "model_version: 7")),
)
refused("an ensemble without steps", "steps", PART | ensemble())
refused("a step without a model", "steps", PART | ensemble(ONE.replace('model_name: "part"', "")))
refused("a step without outputs", "steps", PART | ensemble(step("part", "a=x", "")))
refused(
    "a step for an unknown model", "unknown_model", PART | ensemble(step("nobody", "a=x", "b=y"))
)
refused("a step for a broken model", "broken_part", model(code="") | ensemble(MINE))
refused("an input of a step without a tensor", "unmapped_input", model(TWO_INPUTS) | ensemble(MINE))
loads(
    "an optional input of a step without a tensor",
    model(HEAD + IN + tensor("input", "c", more="optional: true") + OUT) | ensemble(MINE),
)
refused(
    "an input that the step does not have",
    "unknown_tensor",
    PART | ensemble(step("part", "A=x", "b=y")),
)
refused(
    "an output that the step does not have",
    "unknown_tensor",
    PART | ensemble(step("part", "a=x", "B=y")),
)
refused(
    "an input of the ensemble that is not used",
    "unused_input",
    PART | ensemble(ONE, given=tensor("input", "x") + tensor("input", "z")),
)
refused(
    "an output of the ensemble that is not written",
    "unwritten_output",
    PART | ensemble(ONE, made=tensor("output", "y") + tensor("output", "z")),
)
refused("a tensor that is written twice", "written_twice", PART | ensemble(ONE, ONE))
refused(
    "a tensor that is never written",
    "never_written",
    PART | ensemble(step("part", "a=t", "b=y"), given=""),
)
refused("a tensor that is never read", "unread", PART | ensemble(ONE, step("part", "a=x", "b=t")))
refused(
    "steps that wait for each other",
    "never_written",
    PART | ensemble(step("part", "a=s", "b=t"), step("part", "a=t", "b=s"), ONE),
)
refused("an ensemble that uses itself", "cycle", ensemble(step("~e", "x=x", "y=y")))
refused(
    "ensembles that use each other",
    "cycle",
    ensemble(step("~f", "x=x", "y=y")) | ensemble(step("~e", "x=x", "y=y"), name="f"),
)
refused(
    "an ensemble of a broken ensemble",
    "broken_part",
    PART | ensemble(step("part", "z=x", "b=y")) | ensemble(step("~e", "x=x", "y=y"), name="f"),
)
refused(
    "another data type into a step",
    "data_type",
    PART | ensemble(ONE, given=tensor("input", "x", "TYPE_INT32")),
)
refused(
    "another data type between steps",
    "data_type",
    M
    | model(CONFIG.replace("TYPE_STRING", "TYPE_INT32", 1), name="n")
    | ensemble(step("~m", "a=x", "b=t"), step("~n", "a=t", "b=y")),
)
refused(
    "another shape out of a step",
    "shape",
    PART | ensemble(ONE, made=tensor("output", "y", dims="[ 2 ]")),
)
refused(
    "another number of dimensions",
    "shape",
    PART | ensemble(ONE, made=tensor("output", "y", dims="[ -1, -1 ]")),
)
loads("any shape out of a step", PART | ensemble(ONE, made=tensor("output", "y", dims="[ -1 ]")))
refused("a larger batch than a step takes", "max_batch_size", PART | ensemble(ONE, batch=8))
loads("a smaller batch than a step takes", PART | ensemble(ONE, batch=2))
loads(
    "a step without batches, its dims with the batch",
    model(CONFIG.replace("size: 4", "size: 0").replace("[ 1 ]", "[ -1, 1 ]")) | ensemble(MINE),
)
loads("a step whose code completes its tensors", model("", COMPLETES) | ensemble(MINE, batch=0))
refused(
    "instances of an ensemble",
    "instance_group",
    PART | ensemble(ONE, more="instance_group [ { count: 1 } ]"),
)
refused("optimization of an ensemble", "ensemble", PART | ensemble(ONE, more="optimization { }"))
refused("a batcher of an ensemble", "config", PART | ensemble(ONE, more="dynamic_batching { }"))
loads(
    "a decoupled step before another",
    DECOUPLED | model(name="n") | ensemble(step("~m", "a=x", "b=t"), step("~n", "a=t", "b=y")),
)
refused(
    "a step that joins a decoupled answer and an input",
    "decoupled",
    DECOUPLED | N | ensemble(step("~m", "a=x", "b=t"), step("~n", "a=t c=x", "b=y")),
)
refused(
    "outputs before and after a decoupled model",
    "decoupled",
    DECOUPLED
    | model(name="n")
    | ensemble(MINE, step("~n", "a=x", "b=z"), made=tensor("output", "y") + tensor("output", "z")),
)
refused(
    "a join after an ensemble that is decoupled by its part",
    "decoupled",
    DECOUPLED
    | N
    | ensemble(MINE)
    | ensemble(step("~e", "x=x", "y=t"), step("~n", "a=t c=x", "b=y"), name="f"),
)

# Triton 2.51 refuses none of these: it waits for ever, and every other model with it.
HANGING: dict[str, tuple[str, Tree]] = {
    "a missing model.py": ("model_py", model(code=None, files={"1/x.txt": "x"})),
    "a newer version without a model.py": ("model_py", model(files={"2/x.txt": "x"})),
    "a version called 1a": ("version_name", model(version="1a")),
    "a name with a space": ("name", model(name="my model")),
}
# And of these the whole server dies, also one that may start with broken models.
KILLING: dict[str, tuple[str, Tree]] = {
    "a configuration that is a folder": (
        "config",
        {"~m/config.pbtxt/x": "x", "~m/1/model.py": CODE},
    ),
    "a version too large for a number": ("version_name", model(version="9" * 20)),
}
ALONE = [
    "a model",
    "an ensemble",
    "a folder that is no model",
    "a step without a version, as in the guide",
]


def write(tree: Tree, root: Path, prefix: str) -> Path:
    for path, text in tree.items():
        target = root / path.replace("~", prefix)
        if text is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        data = text if isinstance(text, bytes) else text.encode()
        target.write_bytes(data.replace(b"~", prefix.encode()))
    return root


def prefix_of(what: str) -> str:
    return f"t{list(TREES).index(what):03d}_"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, str]]]:
    """Every model of every tree as one real Triton sees it."""
    root = tmp_path_factory.mktemp("models")
    for what, (_, tree) in TREES.items():
        write(tree, root, prefix_of(what))
    install, log = environment.ensure().triton, tmp_path_factory.mktemp("triton")
    server, _ = start_triton(
        install, str(root), log, owner=Owner.this_process(), strict=False, timeout=150
    )
    yield post_json(f"{server.facts['http']}/v2/repository/index", {})
    stop(server)


@pytest.mark.parametrize("what", TREES)
def test_the_lint_says_what_triton_does(
    what: str, index: list[dict[str, str]], tmp_path: Path
) -> None:
    rule, tree = TREES[what]
    prefix = prefix_of(what)
    folders = {path.name for path in write(tree, tmp_path, prefix).iterdir() if path.is_dir()}
    states = {name: {one.get("state") for one in index if one["name"] == name} for name in folders}
    loaded = all(seen == {"READY"} for seen in states.values())
    result = lint(tmp_path)
    assert result.ok == loaded, f"Triton: {states}\n{result}"
    assert loaded == (not rule)
    errors = {one.rule for one in result.findings if one.severity == "error"}
    assert not rule or rule in errors, str(result)


@pytest.mark.parametrize("what", ALONE)
def test_strict_readiness_gives_the_same_verdict(what: str, tmp_path: Path) -> None:
    rule, tree = TREES[what]
    (tmp_path / "models").mkdir()
    assert is_served(write(tree, tmp_path / "models", ""), tmp_path, seconds=30) == (not rule)


@pytest.mark.parametrize("what", HANGING)
def test_what_triton_waits_for_in_vain_is_an_error(what: str, tmp_path: Path) -> None:
    rule, tree = HANGING[what]
    (tmp_path / "models").mkdir()
    models = write(tree, tmp_path / "models", "")
    result = lint(models)
    assert rule in {one.rule for one in result.findings if one.severity == "error"}
    with pytest.raises(ServiceError, match="was not ready within"):
        is_served(models, tmp_path, seconds=5, told=True)


def test_a_path_with_a_space_is_an_error_too(tmp_path: Path) -> None:
    (tmp_path / "my models").mkdir()
    models = write(M, tmp_path / "my models", "")
    assert [one.rule for one in lint(models).findings] == ["path"]
    with pytest.raises(ServiceError, match="was not ready within"):
        is_served(models, tmp_path, seconds=5, told=True)


@pytest.mark.parametrize("what", KILLING)
def test_what_triton_dies_of_is_an_error(what: str, tmp_path: Path) -> None:
    rule, tree = KILLING[what]
    (tmp_path / "models").mkdir()
    models = write(tree, tmp_path / "models", "")
    assert rule in {one.rule for one in lint(models).findings if one.severity == "error"}
    with pytest.raises(ServiceError, match="ended after"):
        start_triton(
            environment.ensure().triton,
            str(models),
            tmp_path,
            owner=Owner.this_process(),
            strict=False,
        )


def is_served(models: Path, folder: Path, *, seconds: float, told: bool = False) -> bool:
    install = environment.ensure().triton
    try:
        server, _ = start_triton(
            install, str(models), folder, owner=Owner.this_process(), timeout=seconds
        )
    except ServiceError:
        if told:
            raise
        return False
    stop(server)
    return True
