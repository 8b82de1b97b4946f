"""The second round: code as people write it, ensembles over chosen parts, whole repositories."""

from __future__ import annotations

from tests.data.lint_trees.draft import (
    ANSWERS,
    CODE,
    PARTS,
    Draft,
    Ensemble,
    Random,
    Tree,
    some_model,
    step,
    tensor,
)
from tests.data.lint_trees.round_b import B

CLASS = "class TritonPythonModel:\n"
EXECUTE = "    def execute(self, requests):\n        return []\n"


def start(*lines: str) -> str:
    return (
        CODE + "    def initialize(self, args):\n" + "".join(f"        {line}\n" for line in lines)
    )


def top(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines) + "\n\n" + CODE


IMPORTS = [
    top("import numpy as np", "import triton_python_backend_utils as pb_utils", "import json"),
    top("import torch"),
    top("import transformers"),
    top("from transformers import AutoTokenizer"),
    top("import tensorrt_llm"),
    top("import cupy as cp"),
    top("from PIL import Image"),
    top("import cv2"),
    top("import requests"),
    top("import yaml"),
    top("import pandas as pd"),
    top("import numpy.linalg"),
    top("import numpy.nothing"),
    top("from numpy import nothing"),
    top("from numpy import array, zeros"),
    top("import os.path"),
    top("import os.nothing"),
    top("from os import nothing"),
    top("from json import loads"),
    top("from collections import Mapping"),
    top("import distutils"),
    top("import asyncore"),
    top("import tomllib"),
    top("import imp"),
    top("try:", "    import torch", "except ImportError:", "    pass"),
    top("try:", "    import torch", "except Exception:", "    torch = None"),
    top("try:", "    import torch", "except:", "    torch = None"),
    top("try:", "    import torch", "except ModuleNotFoundError as error:", "    print(error)"),
    top("try:", "    import torch", "except (ImportError, OSError):", "    pass"),
    top("try:", "    import torch", "except ValueError:", "    pass"),
    top("try:", "    import torch", "except ImportError:", "    raise"),
    top("try:", "    import torch", "finally:", "    pass"),
    top("try:", "    import torch", "except ImportError:", "    import tensorflow"),
    top("if False:", "    import torch"),
    top("from typing import TYPE_CHECKING", "if TYPE_CHECKING:", "    import torch"),
    top("import sys", "if sys.version_info < (3, 0):", "    import torch"),
    top("import contextlib", "with contextlib.suppress(ImportError):", "    import torch"),
    top("def f():", "    import torch"),
    top("import importlib", "importlib.import_module('torch')"),
    top("__import__('torch')"),
    top("import pytriton"),
    top("import tritonclient.http"),
    top("import c_python_backend_utils"),
    top("import model"),
]


@B.change("imports", 70)
def imports(rng: Random, draft: Draft) -> None:
    draft.files["1/model.py"] = rng.choice(IMPORTS)


@B.change("neighbours", 40)
def neighbours(rng: Random, draft: Draft) -> None:
    """Modules beside the code; their names hold the tree's prefix: the server keeps none apart."""
    name = "~lib".replace("~", "l_~")
    line = rng.choice(
        [
            f"import {name}",
            f"from {name} import x",
            f"from {name} import y",
            f"from {name} import *",
            f"from .{name} import x",
            f"from . import {name}",
            f"import {name}.sub",
            f"from {name}.sub import x",
            f"import {name} as other",
            f"from .. import {name}",
        ]
    )
    draft.files["1/model.py"] = top(line)
    draft.files |= rng.choice(
        [
            {f"1/{name}.py": "x = 1\n"},
            {f"1/{name}.py": "raise RuntimeError('no')\n"},
            {f"1/{name}.py": "import nothing_like_this_\nx = 1\n"},
            {f"1/{name}/__init__.py": "x = 1\n"},
            {f"1/{name}/__init__.py": "", f"1/{name}/sub.py": "x = 1\n"},
            {f"1/{name}/sub.py": "x = 1\n"},
            {f"{name}.py": "x = 1\n"},
            {f"2/{name}.py": "x = 1\n"},
            {f"1/{name}.pyc": "x"},
            {},
        ]
    )
    if "2/" in str(draft.files):
        draft.files["2/model.py"] = CODE


BODIES = [
    start("self.config = __import__('json').loads(args['model_config'])"),
    start(
        "import json",
        "self.config = json.loads(args['model_config'])",
        "self.out = self.config['output'][0]",
    ),
    start(
        "import json",
        "self.config = json.loads(args['model_config'])",
        "self.x = self.config['nothing']",
    ),
    start(
        "import json",
        "p = json.loads(args['model_config'])['parameters']",
        "self.x = p['nothing']['string_value']",
    ),
    start("self.device = args['model_instance_kind']"),
    start("self.device = args['model_instance_device_id'] + 1"),
    start("self.version = int(args['model_version'])"),
    start("self.version = int(args['model_name'])"),
    start("self.tokenizer = AutoTokenizer.from_pretrained('x')"),
    start("from transformers import AutoTokenizer"),
    start("import torch", "self.model = torch.load('x')"),
    start("try:", "    import torch", "except ImportError:", "    self.x = 1"),
    start("if args['model_name'] == 'x':", "    raise RuntimeError('no')"),
    start("if True:", "    raise RuntimeError('no')"),
    start("try:", "    raise RuntimeError('no')", "except RuntimeError:", "    pass"),
    start("for _ in range(3):", "    pass", "raise SystemExit"),
    start("while False:", "    raise RuntimeError('no')"),
    start("return", "raise RuntimeError('no')"),
    start("raise NotImplementedError"),
    start("raise KeyError('x') from None"),
    start("self._load(args)") + "    def _load(self, args):\n        raise RuntimeError('no')\n",
    start("self._load(args)") + "    def _load(self):\n        pass\n",
    start("self._load()") + "    def _load(self):\n        self.x = 1\n",
    start("helper()"),
    start("assert 'x' in args, 'no x'"),
    start("assert isinstance(args, dict)"),
    start("import sys", "sys.exit(1)"),
    start("import os", "os.environ['NOTHING_LIKE_THIS']"),
    start("import os", "os.environ.get('NOTHING_LIKE_THIS')"),
    start("with open(args['model_repository'] + '/nope') as file:", "    pass"),
    start(
        "with open(args['model_repository'] + '/config.pbtxt') as file:", "    self.x = file.read()"
    ),
    start("import pathlib", "pathlib.Path('nope').read_text()"),
    start("import numpy as np", "self.x = np.zeros(3)"),
    start("self.x = np.zeros(3)"),
    start("self.x: undefined_name = 1"),
    start("x = y", "y = 1"),
    start("[1][3]"),
    start("{}['x']"),
    start("int('x')"),
    start("None.x"),
    start("'x' + 1"),
    start("del args['model_name']"),
    start("yield"),
    start("lambda: undefined_name"),
    start("def later():", "    raise RuntimeError('no')"),
    start("self.logger = pb_utils.Logger"),
    start("import triton_python_backend_utils as pb_utils", "pb_utils.Logger.log_info('hello')"),
    start(
        "import triton_python_backend_utils as pb_utils",
        "raise pb_utils.TritonModelException('no')",
    ),
    start(
        "import triton_python_backend_utils as pb_utils",
        "pb_utils.using_decoupled_model_transaction_policy({})",
    ),
    start(
        "import triton_python_backend_utils as pb_utils",
        "pb_utils.get_output_config_by_name({}, 'b')['data_type']",
    ),
]


@B.change("initialize", 90)
def bodies(rng: Random, draft: Draft) -> None:
    draft.files["1/model.py"] = rng.choice(BODIES)


TOPS = [
    top("assert False"),
    top("assert True"),
    top("x = [1][3]"),
    top("x = int('x')"),
    top("import sys", "sys.exit()"),
    top("exit()"),
    top("raise SystemExit(0)"),
    top("if __name__ == '__main__':", "    raise RuntimeError('no')"),
    top("if __name__ != '__main__':", "    x = 1"),
    top("def f():", "    raise RuntimeError('no')", "f()"),
    top("def f():", "    return 1", "f()"),
    top("x = 1", "del x", "print(x)"),
    top("global x", "x = 1"),
    top("nonlocal x"),
    top("await x"),
    top("yield 1"),
    top("break"),
    top("f'{x'"),
    top("f'{1 + 1}'"),
    top("x: int"),
    top("x: undefined_name = 1"),
    top("def f(x=undefined_name): pass"),
    top("def f(x, x): pass"),
    top("class A(undefined_name): pass"),
    top("class A:", "    x = undefined_name"),
    top("lambda: (yield)"),
    top("a, b = 1, 2"),
    top("a, b = 1"),
    top("if (n := 3) > 2: pass"),
    top("import os", "os.environ['NOTHING_LIKE_THIS']"),
    top("x = 08"),
    top("x = 'a\\d'"),
    top("# -*- coding: nothing -*-"),
    top("def f(a, /, b, *, c): pass"),
    top("print('a'", "      'b')"),
    top("x = (1,"),
    top("try:", "    pass"),
    top("\u00e9 = 1"),
    top("x = \u201chello\u201d"),
    top("from numpy import *"),
    "from __future__ import annotations\n" + CODE.replace("requests", "requests: undefined_name"),
    CODE.replace("requests", "requests: undefined_name"),
    CODE.replace("requests)", "requests) -> undefined_name"),
    CODE.replace("requests)", "requests) -> list[int]"),
    CLASS + "    x = undefined_name\n" + EXECUTE,
    CLASS + "    @undefined_name\n" + EXECUTE,
    CLASS + '    """About."""\n\n' + EXECUTE,
    "\ufeff" + CODE,
    CODE.replace("\n", "\r\n"),
    CODE.replace("\n", "\r"),
    "#!/usr/bin/env python2\n" + CODE,
    "class Base:\n    def initialize(self):\n        pass\n\n\nclass TritonPythonModel(Base):\n"
    + EXECUTE,
    "class Base:\n    def initialize(self, args):\n        raise RuntimeError\n\n\nclass TritonPythonModel(Base):\n"
    + EXECUTE,
    "import abc\n\n\nclass TritonPythonModel(abc.ABC):\n    @abc.abstractmethod\n" + EXECUTE,
    "from dataclasses import dataclass\n\n\n@dataclass\n" + CLASS + "    x: int\n" + EXECUTE,
    "from dataclasses import dataclass\n\n\n@dataclass\n" + CLASS + "    x: int = 1\n" + EXECUTE,
    "class TritonPythonModel(metaclass=type):\n" + EXECUTE,
    "def make():\n    class T:\n        def execute(self, requests):\n            return []\n    return T\n\n\nTritonPythonModel = make()\n",
    "globals()['TritonPythonModel'] = type('T', (), {'execute': lambda self, requests: []})\n",
    "import enum\n\n\nclass TritonPythonModel(enum.Enum):\n    A = 1\n",
    "class TritonPythonModel(Exception):\n" + EXECUTE,
    "import collections\nTritonPythonModel = collections.OrderedDict\n",
    "TritonPythonModel = lambda: None\n",
    "TritonPythonModel: type\n",
    "TritonPythonModel = []\n",
    "class A:\n    class TritonPythonModel:\n        pass\n",
    "try:\n    x = 1\nexcept ValueError:\n    " + CODE.replace("\n", "\n    ").rstrip() + "\n",
]


@B.change("module's code", 110)
def tops(rng: Random, draft: Draft) -> None:
    draft.files["1/model.py"] = rng.choice(TOPS)


@B.change("completes", 50)
def completes(rng: Random, draft: Draft) -> None:
    """The usual ways to complete a configuration, with a configuration that lacks things."""
    lines = rng.choice(
        [
            [
                "for one in inputs:",
                "    config.add_input(one)",
                "for one in outputs:",
                "    config.add_output(one)",
            ],
            [
                "config.add_input(inputs[0])",
                "config.add_output(outputs[0])",
                "config.set_max_batch_size(0)",
            ],
            ["config.add_input(inputs[0])", "config.set_max_batch_size(4)"],
            ["config.set_max_batch_size(16)", "config.set_dynamic_batching()"],
            [
                "names = [one['name'] for one in config.as_dict()['input']]",
                "if 'a' not in names:",
                "    config.add_input(inputs[0])",
            ],
            ["config.set_max_batch_size('4')"],
            ["config.set_max_batch_size(2.5)"],
            ["pass"],
        ]
    )
    size = rng.choice(["[1]", "[-1]", "[2, 3]", "[]", "[0]", "1", "['1']"])
    kind = rng.choice(["TYPE_FP32", "TYPE_FP32", "TYPE_STRING", "FP32"])
    head = f"inputs = [{{'name': 'a', 'data_type': '{kind}', 'dims': {size}}}]"
    tail = "outputs = [{'name': 'b', 'data_type': 'TYPE_FP32', 'dims': [1]}]"
    body = [head, tail, *lines, "return config"]
    draft.files["1/model.py"] = (
        CODE
        + "\n    @staticmethod\n    def auto_complete_config(config):\n"
        + "".join(f"        {one}\n" for one in body)
    )
    what = rng.choice(["none", "none", "empty", "no tensors", "other", "whole", "bare"])
    if what == "none":
        draft.config = None
    elif what == "empty":
        draft.text = ""
    elif what == "no tensors":
        draft.inputs, draft.outputs = [], []
    elif what == "other":
        draft.inputs = [tensor("a", "TYPE_INT64", "[ 1 ]")]
    elif what == "bare":
        draft.inputs = ['{ name: "a" }']


# -- ensembles ---------------------------------------------------------------------------------------


@B.whole("graphs", 80)
def graphs(rng: Random) -> Tree:
    """Mostly sound graphs: each step reads what is there, with one chance of a slip."""
    made = Ensemble([], parts=[])
    there, count = ["x"], rng.choice([1, 2, 3, 4])
    for number in range(count):
        part = rng.choice(["part", "join", "fork", "maybe"])
        made.parts.append(part)
        inputs = {"join": "a c", "maybe": rng.choice(["a", "a c"])}.get(part, "a").split()
        outputs = {"fork": rng.choice(["b", "b d", "d"])}.get(part, "b").split()
        given = " ".join(f"{one}={rng.choice(there[-2:])}" for one in inputs)
        new = [f"t{number}{one}" for one in outputs]
        if number == count - 1:
            new[0] = "y"
        made.steps.append(
            step(
                part,
                given,
                " ".join(f"{one}={name}" for one, name in zip(outputs, new, strict=True)),
            )
        )
        there += new
    if rng.random() < 0.5:
        rng.shuffle(made.steps)
    for name in there[1:]:
        if rng.random() < 0.5 and name != "y":
            made.outputs.append(tensor(name))
    if rng.random() < 0.15:
        made.outputs.append(tensor("x"))
    if rng.random() < 0.15:
        made.inputs.append(tensor("y"))
    if rng.random() < 0.1:
        made.inputs = []
    if rng.random() < 0.1:
        made.outputs = made.outputs[1:]
    return made.tree()


@B.whole("nested ensembles", 50)
def nested(rng: Random) -> Tree:
    inner = Ensemble(
        [step(rng.choice(["part", "part", "stream"]), "a=x", "b=y")], parts=["part", "stream"]
    )
    inner.head["max_batch_size"] = rng.choice(["4", "4", "2", "0"])
    inner.inputs = [tensor("x", dims=rng.choice(["[ 1 ]", "[ 1 ]", "[ -1 ]"]))]
    if inner.head["max_batch_size"] == "0" and rng.random() < 0.7:
        inner.inputs, inner.outputs = (
            [tensor("x", dims="[ -1, 1 ]")],
            [tensor("y", dims="[ -1, 1 ]")],
        )
    last = rng.choice(["part", "join", "ints"])
    given = f"a=t c={rng.choice('xt')}" if last == "join" else "a=t"
    outer = Ensemble(
        [
            step(
                "~e",
                rng.choice(["x=x", "x=x", "a=x"]),
                "y=t",
                rng.choice(["model_version: -1", "model_version: -1", "", "model_version: 1"]),
            ),
            step(last, given, "b=y"),
        ],
        parts=[last],
        name="~f",
    )
    outer.head["max_batch_size"] = rng.choice(["4", "2", "8", "0"])
    if rng.random() < 0.3:
        inner.files = {"2/x": "x"}
    return inner.tree() | outer.tree()


@B.whole("parts of one's own", 80)
def own_parts(rng: Random) -> Tree:
    """An ensemble over a model whose settings were chosen by chance."""
    draft = some_model(rng)
    names = [f"a{number or ''}" for number in range(len(draft.inputs))]
    outs = [f"b{number or ''}" for number in range(len(draft.outputs))]
    draft.files = {
        f"{version}/model.py": CODE for version in rng.choice([["1"], ["1", "2"], ["3"]])
    }
    draft.more.append(
        rng.choice(
            ["", "", "version_policy { all { } }", "model_transaction_policy { decoupled: true }"]
        )
    )
    if rng.random() < 0.2:
        draft.files = dict.fromkeys(draft.files, ANSWERS)
    made = Ensemble(
        [
            step(
                "~m",
                " ".join(f"{one}=i{one}" for one in names),
                " ".join(f"{one}=o{one}" for one in outs),
                rng.choice(
                    ["model_version: -1"] * 3 + ["model_version: 1", "model_version: 2", ""]
                ),
            )
        ],
        [one.replace('"a', '"ia') for one in draft.inputs],
        [one.replace('"b', '"ob') for one in draft.outputs],
        parts=[],
    )
    made.head["max_batch_size"] = rng.choice([draft.head["max_batch_size"]] * 4 + ["0", "2"])
    slip = rng.choice(["none", "none", "drop input", "drop output", "kind", "any", "reshape"])
    if slip == "drop input":
        made.inputs.pop()
    elif slip == "drop output":
        made.outputs.pop()
    elif slip == "kind":
        made.inputs[0] = tensor("ia", "TYPE_FP16")
    elif slip == "any":
        made.inputs[0] = made.inputs[0].replace("[ 1 ]", "[ -1 ]").replace("[ 3, 4 ]", "[ -1, 4 ]")
    elif slip == "reshape":
        made.inputs[0] = made.inputs[0].replace(" }", " reshape { shape: [ 1 ] } }")
    return draft.tree() | made.tree()


@B.whole("two ensembles", 20)
def two_ensembles(rng: Random) -> Tree:
    one = Ensemble([step("part", "a=x", "b=y")])
    two = Ensemble(
        [
            step(
                rng.choice(["part", "~e", "~g"]),
                rng.choice(["a=x", "x=x"]),
                rng.choice(["b=y", "y=y"]),
            )
        ],
        name="~f",
    )
    if rng.random() < 0.3:
        one.head["max_batch_size"] = "9"
    return one.tree() | two.tree()


# -- whole repositories -------------------------------------------------------------------------------

LLM = {
    "preprocessing": ([tensor("QUERY")], [tensor("INPUT_ID", "TYPE_INT32", "[ -1 ]")]),
    "tensorrt_llm": (
        [
            tensor("input_ids", "TYPE_INT32", "[ -1 ]"),
            tensor("request_output_len", "TYPE_INT32", "[ 1 ]", "optional: true"),
        ],
        [
            tensor("output_ids", "TYPE_INT32", "[ -1, -1 ]"),
            tensor("sequence_length", "TYPE_INT32", "[ -1 ]"),
        ],
    ),
    "postprocessing": (
        [
            tensor("TOKENS_BATCH", "TYPE_INT32", "[ -1, -1 ]"),
            tensor("SEQUENCE_LENGTH", "TYPE_INT32", "[ -1 ]"),
        ],
        [tensor("OUTPUT")],
    ),
}


@B.whole("language model", 60)
def language_model(rng: Random) -> Tree:
    """The layout of NVIDIA's templates, over the Python backend, with one thing changed."""
    tree: Tree = {}
    batch = rng.choice(["4", "64"])
    broken = rng.choice([None, None, *LLM])
    for name, (inputs, outputs) in LLM.items():
        draft = Draft(
            f"~{name}",
            {"backend": '"python"', "max_batch_size": batch},
            list(inputs),
            list(outputs),
        )
        if name == "tensorrt_llm" and rng.random() < 0.5:
            draft.more.append(
                "model_transaction_policy { decoupled: %s }" % rng.choice(["true", "false", "${d}"])
            )
        if name == broken:
            change = rng.choice(
                ["backend", "batch", "type", "version", "name", "gpu", "code", "template"]
            )
            if change == "backend":
                draft.head["backend"] = rng.choice(['"tensorrtllm"', '"${triton_backend}"'])
            elif change == "batch":
                draft.head["max_batch_size"] = rng.choice(["0", "1", "${triton_max_batch_size}"])
            elif change == "type":
                draft.inputs[0] = (
                    draft.inputs[0].replace("INT32", "INT64").replace("STRING", "BYTES")
                )
            elif change == "version":
                draft.files = {"1/config.json": "{}"}
                draft.head["backend"] = '"tensorrtllm"'
            elif change == "name":
                draft.head["name"] = f'"{name}"'
            elif change == "gpu":
                draft.more.append("instance_group [ { count: 1 kind: KIND_GPU gpus: [ 0 ] } ]")
            elif change == "code":
                draft.files = {"1/model.py": "from transformers import AutoTokenizer\n" + CODE}
            else:
                draft.more.append(
                    'parameters { key: "tokenizer_dir" value: { string_value: "${tokenizer_dir}" } }'
                )
        tree |= draft.tree()
    steps = [
        step("~preprocessing", "QUERY=text_input", "INPUT_ID=_ids"),
        step(
            "~tensorrt_llm",
            "input_ids=_ids request_output_len=max_tokens",
            "output_ids=_out sequence_length=_len",
        ),
        step("~postprocessing", "TOKENS_BATCH=_out SEQUENCE_LENGTH=_len", "OUTPUT=text_output"),
    ]
    if rng.random() < 0.3:
        place = rng.randrange(3)
        steps[place] = steps[place].replace(
            *rng.choice(
                [("model_version: -1", ""), ("_ids", "_id"), ("_len", "_length"), ("~", "")]
            )
        )
    made = Ensemble(
        steps,
        [
            tensor("text_input"),
            tensor("max_tokens", "TYPE_INT32", "[ 1 ]", rng.choice(["", "optional: true"])),
        ],
        [tensor("text_output", dims=rng.choice(["[ 1 ]", "[ -1 ]", "[ -1, -1 ]"]))],
        parts=[],
        name="~ensemble",
    )
    made.head["max_batch_size"] = rng.choice([batch] * 4 + ["128"])
    return tree | made.tree()


@B.whole("unused and broken", 12)
def unused(rng: Random) -> Tree:
    broken = Draft("~z")
    broken.files = {"1/model.py": rng.choice(["", CODE, CODE])}
    return Ensemble([step("part", "a=x", "b=y")]).tree() | broken.tree() | PARTS["ints"]
