"""The first round: the code of Python models, and ensembles."""

from __future__ import annotations

from tests.data.lint_trees.draft import CODE, PARTS, Draft, Ensemble, Random, Tree, step, tensor
from tests.data.lint_trees.round_a import A

CLASS = "class TritonPythonModel:\n"
EXECUTE = "    def execute(self, requests):\n        return []\n"


def initialize(body: str, arguments: str = "self, args") -> str:
    return CODE + f"    def initialize({arguments}):\n        {body}\n"


def complete(body: str, arguments: str = "config", mark: str = "    @staticmethod\n") -> str:
    return CODE + f"{mark}    def auto_complete_config({arguments}):\n        {body}\n"


@A.change("code", 50)
def code(rng: Random, draft: Draft) -> None:
    draft.files["1/model.py"] = rng.choice(
        [
            "",
            "x = 1\n",
            "import json\n",
            "class Model:\n" + EXECUTE,
            "class tritonpythonmodel:\n" + EXECUTE,
            CLASS + "    pass\n",
            CLASS + "    x = 1\n",
            CLASS + EXECUTE.replace("):", "")[:-1] + "\n",
            CLASS + EXECUTE.replace("self, requests", ""),
            CLASS + EXECUTE.replace("self, requests", "self"),
            CLASS + "    async def execute(self, requests):\n        return []\n",
            CLASS + "    execute = None\n",
            "def TritonPythonModel():\n    return None\n",
            "TritonPythonModel = object\n",
            "TritonPythonModel = None\n",
            "TritonPythonModel = 3\n",
            "TritonPythonModel = type('T', (), {})\n",
            "import nothing_like_this_\n" + CODE,
            "import numpy\nimport json, os, sys\n" + CODE,
            "import torch\n" + CODE,
            "import triton_python_backend_utils as pb_utils\n" + CODE,
            "from triton_python_backend_utils import nothing\n" + CODE,
            "try:\n    import torch\nexcept ImportError:\n    torch = None\n" + CODE,
            "from beside import x\n" + CODE,
            "raise RuntimeError('at import')\n" + CODE,
            "1 / 0\n" + CODE,
            "open('/nope')\n" + CODE,
            "print('hello')\n" + CODE,
            "if True:\n    " + CODE.replace("\n", "\n    ").rstrip() + "\n",
            "if False:\n    " + CODE.replace("\n", "\n    ").rstrip() + "\n",
            CODE.replace("    ", "\t"),
            CODE.replace("    ", " "),
            CODE + "\n  x = 1\n",
            "# -*- coding: latin-1 -*-\n# \u00e9\n" + CODE,
            "match 1:\n    case 1:\n        pass\n" + CODE,
            "print 'python 2'\n" + CODE,
            "from __future__ import braces\n" + CODE,
            "from __future__ import annotations\n" + CODE,
            CODE + CODE,
            CODE + "del TritonPythonModel\n",
            CODE + "TritonPythonModel = None\n",
            "@undefined\n" + CODE,
            "class TritonPythonModel(Base):\n" + EXECUTE,
            "class TritonPythonModel(object):\n" + EXECUTE,
            "class Base:\n    pass\n\n\nclass TritonPythonModel(Base):\n" + EXECUTE,
            "import sys\nsys.exit(0)\n" + CODE,
            "async def f():\n    await x\n" + CODE,
            "x = undefined_name\n" + CODE,
            "type X = int\n" + CODE,
            "def f(x: undefined): pass\n" + CODE,
        ]
    )
    if rng.random() < 0.2:
        draft.files["1/beside.py"] = rng.choice(["x = 1\n", "y = 1\n", "def (:\n", ""])


@A.change("code's methods", 50)
def methods(rng: Random, draft: Draft) -> None:
    draft.files["1/model.py"] = rng.choice(
        [
            initialize("pass"),
            initialize("raise RuntimeError('no')"),
            initialize("raise ValueError(args['model_name'])"),
            initialize("self.x = args['model_config']"),
            initialize("self.x = args['nothing']"),
            initialize("self.x = undefined_name"),
            initialize("import nothing_like_this_"),
            initialize("pass", "self"),
            initialize("pass", "args"),
            initialize("pass", ""),
            initialize("pass", "self, args, more"),
            initialize("pass", "self, *args"),
            initialize("pass", "self, args=None, **more"),
            initialize("pass", "self, *, args"),
            initialize("return False"),
            initialize("assert args"),
            initialize("assert not args"),
            initialize("1 / 0"),
            initialize("open('nope.txt').read()"),
            initialize("self.initialize_more()"),
            initialize("import os; assert os.path.exists(args['model_repository'])"),
            CODE + "    def __init__(self):\n        raise RuntimeError('no')\n",
            CODE + "    def __init__(self):\n        self.x = 1\n",
            CODE + "    def __init__(self, x):\n        self.x = 1\n",
            CODE + "    def __new__(cls):\n        return None\n",
            CODE + "    def finalize(self, x):\n        pass\n",
            CODE + "    def finalize(self):\n        raise RuntimeError('no')\n",
            CODE + "    @staticmethod\n    def initialize(args):\n        pass\n",
            CODE + "    @classmethod\n    def initialize(cls, args):\n        pass\n",
            CODE + "    @property\n    def initialize(self):\n        return print\n",
            CODE + "    initialize = 3\n",
            CODE + "    initialize = print\n",
            CODE + "    async def initialize(self, args):\n        pass\n",
        ]
    )


@A.change("auto-complete", 50)
def completion(rng: Random, draft: Draft) -> None:
    draft.files["1/model.py"] = rng.choice(
        [
            complete("return config"),
            complete("pass"),
            complete("return None"),
            complete("return 3"),
            complete("raise RuntimeError('no')"),
            complete("config.set_max_batch_size(8); return config"),
            complete("config.set_max_batch_size(0); return config"),
            complete("config.set_max_batch_size(-1); return config"),
            complete("config.set_dynamic_batching(); return config"),
            complete(
                "config.add_input({'name': 'n', 'data_type': 'TYPE_FP32', 'dims': [1]}); return config"
            ),
            complete("config.add_input({'name': 'n', 'data_type': 'TYPE_FP32'}); return config"),
            complete("config.add_input({'name': 'n', 'dims': [1]}); return config"),
            complete("config.add_input({'data_type': 'TYPE_FP32', 'dims': [1]}); return config"),
            complete(
                "config.add_input({'name': 'n', 'data_type': 'FP32', 'dims': [1]}); return config"
            ),
            complete(
                "config.add_input({'name': 'n', 'data_type': 'TYPE_FP32', 'dims': [0]}); return config"
            ),
            complete(
                "config.add_input({'name': 'a', 'data_type': 'TYPE_FP32', 'dims': [9]}); return config"
            ),
            complete(
                "config.add_output({'name': 'n', 'data_type': 'TYPE_FP32', 'dims': [1]}); return config"
            ),
            complete(
                "config.add_output({'name': 'n', 'x': 1, 'data_type': 'TYPE_FP32', 'dims': [1]}); return config"
            ),
            complete("config.set_model_transaction_policy(dict(decoupled=True)); return config"),
            complete("config.set_model_transaction_policy(dict(x=True)); return config"),
            complete("config.nothing(); return config"),
            complete("return config", "config, more"),
            complete("return config", ""),
            complete("return config", "self, config"),
            complete("return config", "config", ""),
            complete("return config", "cls, config", "    @classmethod\n"),
            complete("return config.as_dict()"),
            complete("x = config.as_dict(); return config"),
            complete("yield config"),
            complete("if config: return config"),
            complete("import nothing_like_this_; return config"),
        ]
    )
    if rng.random() < 0.4:
        draft.config = None
    elif rng.random() < 0.4:
        rng.choice([draft.inputs, draft.outputs]).clear()


# -- ensembles ---------------------------------------------------------------------------------------


@A.whole("ensemble's wiring", 60)
def wiring(rng: Random) -> Tree:
    """Steps over the shared parts, their tensors joined by chance."""
    made = Ensemble([], parts=[])
    names = ["x", "y", "t", "u"]
    for _ in range(rng.choice([1, 1, 2, 2, 3])):
        part = rng.choice(["part", "part", "join", "fork", "maybe", "ints", "wide", "plain"])
        made.parts.append(part)
        inputs = {"join": "a c", "maybe": rng.choice(["a", "a c"])}.get(part, "a").split()
        outputs = {"fork": rng.choice(["b", "b d"])}.get(part, "b").split()
        given = " ".join(f"{one}={rng.choice(names[:1] + names)}" for one in inputs)
        out = " ".join(f"{one}={rng.choice(names[1:])}" for one in outputs)
        made.steps.append(step(part, given, out))
    if rng.random() < 0.3:
        made.outputs.append(tensor("t"))
    if rng.random() < 0.2:
        made.inputs.append(tensor("u"))
    return made.tree()


@A.whole("ensemble's shapes", 50)
def shapes(rng: Random) -> Tree:
    part = rng.choice(["part", "ints", "wide", "plain"])
    kinds = ["TYPE_INT32" if part == "ints" else "TYPE_STRING", "TYPE_FP32"]
    sizes = ["[ 1 ]", "[ -1 ]", "[ 2 ]", "[ 2, -1 ]", "[ 2, 5 ]", "[ -1, 1 ]", "[ -1, -1 ]", "[ ]"]
    made = Ensemble(
        [step(part, "a=x", "b=y")],
        [tensor("x", rng.choice([kinds[0]] * 4 + kinds), rng.choice(sizes))],
        [tensor("y", rng.choice([kinds[0]] * 4 + kinds), rng.choice(sizes))],
        parts=[part],
    )
    if rng.random() < 0.5:
        made.inputs = [tensor("x", kinds[0], "[ -1 ]")]
    made.head["max_batch_size"] = rng.choice(["0", "1", "4", "4", "5"])
    return made.tree()


@A.whole("ensemble's steps", 50)
def steps(rng: Random) -> Tree:
    good = step("part", "a=x", "b=y")
    made = Ensemble(
        [
            rng.choice(
                [
                    good,
                    step("part", "a=x", "b=y", ""),
                    step("part", "a=x", "b=y", "model_version: 1"),
                    step("part", "a=x", "b=y", "model_version: 2"),
                    step("part", "a=x", "b=y", "model_version: 0"),
                    step("part", "a=x", "b=y", "model_version: -2"),
                    step("nobody", "a=x", "b=y"),
                    step("", "a=x", "b=y"),
                    step("~e", "x=x", "y=y"),
                    step("part", "", "b=y"),
                    step("part", "a=x", ""),
                    step("part", "z=x", "b=y"),
                    step("part", "a=x", "z=y"),
                    step("part", "a=x", "a=y"),
                    step("part", "a=x a=y", "b=y"),
                    step("part", "a=x", "b=x"),
                    step("part", "a=x", "b=y", 'model_version: -1 model_namespace: ""'),
                    step("part", "a=x", "b=y", 'model_version: -1 model_namespace: "other"'),
                    "{ }",
                    good.replace("input_map {", "input_map: {"),
                    good.replace("part", "PART"),
                ]
            )
        ]
    )
    return made.tree()


@A.whole("ensemble's head", 50)
def head(rng: Random) -> Tree:
    made = Ensemble([step("part", "a=x", "b=y")])
    change = rng.choice(
        [
            "platform",
            "backend",
            "batch",
            "more",
            "none",
            "name",
            "version",
            "files",
            "tensors",
            "steps",
        ]
    )
    if change == "platform":
        made.head["platform"] = rng.choice(['"Ensemble"', '""', '"ensembles"', "ensemble"])
    elif change == "backend":
        made.head["backend"] = rng.choice(['"python"', '""', '"ensemble"'])
    elif change == "batch":
        made.head["max_batch_size"] = rng.choice(["-1", "8", "1", "0"])
    elif change == "name":
        made.head["name"] = rng.choice(['"~e"', '"e"'])
    elif change == "version":
        made.files = rng.choice(
            [{}, {"2/x": "x"}, {"v1/x": "x"}, {"1": None}, {"1/x": ""}, {"0/x": "x"}, {"x": "x"}]
        )
    elif change == "files":
        made.files = {"1/model.py": rng.choice([CODE, "def (:\n", ""])}
    elif change == "tensors":
        rng.choice([made.inputs, made.outputs]).append(
            rng.choice(
                [
                    tensor("z"),
                    tensor("x"),
                    tensor("y"),
                    tensor(""),
                    "{ }",
                    tensor("x", dims="[ 0 ]"),
                ]
            )
        )
    elif change == "steps":
        made.steps = rng.choice([[], [made.steps[0], made.steps[0]]])
    made.more.append(
        rng.choice(
            [
                "instance_group [ { count: 1 } ]",
                "optimization { }",
                "model_warmup { }",
                "dynamic_batching { }",
                "sequence_batching { }",
                "model_transaction_policy { decoupled: true }",
                "model_transaction_policy { decoupled: false }",
                "response_cache { enable: true }",
                "version_policy { all { } }",
                "version_policy { specific { versions: 3 } }",
                'parameters { key: "p" value { string_value: "x" } }',
                'default_model_filename: "x"',
                "ensemble_scheduling { max_inflight_requests: 3 }",
            ]
        )
        if change == "more"
        else ""
    )
    return made.tree()


@A.whole("ensemble of decoupled", 40)
def decoupled_parts(rng: Random) -> Tree:
    middle = rng.choice(["stream", "part"])
    last = rng.choice(["part", "join", "stream"])
    given = (
        f"a=t c={rng.choice(['t', 'x'])}" if last == "join" else f"a={rng.choice(['t', 't', 'x'])}"
    )
    made = Ensemble([step(middle, "a=x", "b=t"), step(last, given, "b=y")], parts=[middle, last])
    if rng.random() < 0.4:
        made.outputs.append(tensor("t"))
    if rng.random() < 0.2:
        made.steps.reverse()
    return made.tree()


@A.whole("ensemble of broken", 30)
def broken_parts(rng: Random) -> Tree:
    draft = Draft()
    change = rng.choice(["code", "text", "version", "kind", "none", "missing", "gpu"])
    if change == "code":
        draft.files["1/model.py"] = rng.choice(
            ["", "def (:\n", "import nothing_like_this_\n" + CODE]
        )
    elif change == "text":
        draft.text = rng.choice(["{{{", "", "nonsense: 1"])
    elif change == "version":
        draft.files = rng.choice([{}, {"2/model.py": CODE}])
    elif change == "kind":
        draft.inputs = [tensor("a", "TYPE_INT32")]
    elif change == "gpu":
        draft.more.append("instance_group { kind: KIND_GPU }")
    made = Ensemble([step("~m", "a=x", "b=y")], parts=[]).tree()
    outer = Ensemble([step("~e", "x=x", "y=y")], parts=[], name="~f").tree()
    tree = made | (outer if rng.random() < 0.4 else {})
    return tree if change == "missing" else tree | draft.tree()


@A.whole("several models", 16)
def several(rng: Random) -> Tree:
    tree: Tree = {}
    for letter in "pqr"[: rng.choice([2, 3])]:
        draft = Draft(f"~{letter}")
        if rng.random() < 0.25:
            draft.head["max_batch_size"] = "-1"
        tree |= draft.tree()
    return tree | PARTS["part"] | {"~README.md": "x"}
