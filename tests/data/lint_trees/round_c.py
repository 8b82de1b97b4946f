"""The third round: repositories as people keep them, each with one mistake that people make.

Written after the rules were put right by the first two rounds and before Triton was asked.
"""

from __future__ import annotations

from tests.data.lint_trees.draft import (
    ANSWERS,
    CODE,
    Draft,
    Ensemble,
    Link,
    Random,
    Round,
    Tree,
    step,
    tensor,
)

C = Round("C")

ADD_SUB = '''\
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Adds and subtracts."""

    def initialize(self, args):
        self.model_config = model_config = json.loads(args["model_config"])
        output0_config = pb_utils.get_output_config_by_name(model_config, "OUTPUT0")
        output1_config = pb_utils.get_output_config_by_name(model_config, "OUTPUT1")
        self.output0_dtype = pb_utils.triton_string_to_numpy(output0_config["data_type"])
        self.output1_dtype = pb_utils.triton_string_to_numpy(output1_config["data_type"])

    def execute(self, requests):
        responses = []
        for request in requests:
            in_0 = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            in_1 = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            out_0 = pb_utils.Tensor("OUTPUT0", (in_0 + in_1).astype(self.output0_dtype))
            out_1 = pb_utils.Tensor("OUTPUT1", (in_0 - in_1).astype(self.output1_dtype))
            responses.append(pb_utils.InferenceResponse(output_tensors=[out_0, out_1]))
        return responses

    def finalize(self):
        print("Cleaning up...")
'''
TOKENIZER = """\
import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils

HERE = os.path.dirname(os.path.abspath(__file__))
VOCABULARY = {"hello": 1, "world": 2}


def tokenize(text):
    return [VOCABULARY.get(word, 0) for word in text.split()]


class TritonPythonModel:
    def initialize(self, args):
        self.logger = pb_utils.Logger
        config = json.loads(args["model_config"])
        parameters = config["parameters"]
        self.limit = int(parameters["limit"]["string_value"]) if "limit" in parameters else 16
        self.name = args["model_name"]
        self.logger.log_info(f"{self.name} takes {self.limit} words")

    def execute(self, requests):
        responses = []
        for request in requests:
            try:
                text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
                ids = np.array([tokenize(one[0].decode()) for one in text], dtype=np.int32)
                responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("IDS", ids)]))
            except Exception as error:
                failed = pb_utils.TritonError(str(error))
                responses.append(pb_utils.InferenceResponse([], error=failed))
        return responses
"""
BLS = """\
import asyncio

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        self.loop = None

    async def execute(self, requests):
        made = []
        for request in requests:
            call = pb_utils.InferenceRequest(
                model_name="other", requested_output_names=["b"], inputs=[]
            )
            answer = await call.async_exec()
            made.append(pb_utils.InferenceResponse(output_tensors=answer.output_tensors()))
        return made
"""
COMPLETES = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        inputs = [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [4]},
                  {"name": "INPUT1", "data_type": "TYPE_FP32", "dims": [4]}]
        outputs = [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [4]},
                   {"name": "OUTPUT1", "data_type": "TYPE_FP32", "dims": [4]}]
        config = auto_complete_model_config.as_dict()
        input_names = []
        output_names = []
        for input in config["input"]:
            input_names.append(input["name"])
        for output in config["output"]:
            output_names.append(output["name"])
        for input in inputs:
            if input["name"] not in input_names:
                auto_complete_model_config.add_input(input)
        for output in outputs:
            if output["name"] not in output_names:
                auto_complete_model_config.add_output(output)
        auto_complete_model_config.set_max_batch_size(0)
        return auto_complete_model_config

    def execute(self, requests):
        return []
"""


def add_sub(name: str = "~add_sub", code: str = ADD_SUB) -> Draft:
    both = [tensor(f"INPUT{number}", "TYPE_FP32", "[ 4 ]") for number in (0, 1)]
    made = [tensor(f"OUTPUT{number}", "TYPE_FP32", "[ 4 ]") for number in (0, 1)]
    draft = Draft(name, {"name": f'"{name}"', "backend": '"python"'}, both, made)
    draft.more.append("instance_group [{ kind: KIND_CPU }]")
    draft.files = {"1/model.py": code}
    return draft


def tokenizer(name: str = "~tokenizer") -> Draft:
    draft = Draft(name, {"name": f'"{name}"', "backend": '"python"', "max_batch_size": "8"})
    draft.inputs, draft.outputs = [tensor("TEXT")], [tensor("IDS", "TYPE_INT32", "[ -1 ]")]
    draft.files = {"1/model.py": TOKENIZER, "1/vocabulary.json": "{}"}
    return draft


def pipeline() -> tuple[dict[str, Draft], Ensemble]:
    """Tokenizer, classifier and labels behind an ensemble."""
    classifier = Draft("~classifier", {"backend": '"python"', "max_batch_size": "8"})
    classifier.inputs = [tensor("IDS", "TYPE_INT32", "[ -1 ]")]
    classifier.outputs = [tensor("LOGITS", "TYPE_FP32", "[ 2 ]")]
    labels = Draft("~labels", {"backend": '"python"', "max_batch_size": "8"})
    labels.inputs = [tensor("LOGITS", "TYPE_FP32", "[ -1 ]")]
    labels.outputs = [tensor("LABEL")]
    ensemble = Ensemble(
        [
            step("~tokenizer", "TEXT=text", "IDS=ids"),
            step("~classifier", "IDS=ids", "LOGITS=logits"),
            step("~labels", "LOGITS=logits", "LABEL=label"),
        ],
        [tensor("text")],
        [tensor("label")],
        {"name": '"~pipeline"', "platform": '"ensemble"', "max_batch_size": "8"},
        parts=[],
        name="~pipeline",
    )
    return {"tokenizer": tokenizer(), "classifier": classifier, "labels": labels}, ensemble


def together(drafts: dict[str, Draft], ensemble: Ensemble) -> Tree:
    tree: Tree = ensemble.tree()
    for draft in drafts.values():
        tree |= draft.tree()
    return tree


@C.whole("sound repositories", 14)
def sound(rng: Random) -> Tree:
    which = rng.choice(["add_sub", "tokenizer", "pipeline", "completes", "bls", "all"])
    tree: Tree = {}
    if which in {"add_sub", "all"}:
        tree |= add_sub().tree()
    if which in {"tokenizer", "all"}:
        tree |= tokenizer("~tok2").tree()
    if which in {"pipeline", "all"}:
        tree |= together(*pipeline())
    if which in {"bls", "all"}:
        tree |= Draft("~bls", files={"1/model.py": BLS}).tree()
    if which in {"completes", "all"}:
        tree |= {"~auto/1/model.py": COMPLETES}
    return tree | {"~README.md": "x"}


@C.whole("mistakes in code", 60)
def code_mistake(rng: Random) -> Tree:
    old, new = rng.choice(
        [
            ("import json\n", ""),
            ("import numpy as np\n", ""),
            ("import triton_python_backend_utils as pb_utils\n", ""),
            (
                "import triton_python_backend_utils as pb_utils",
                "import triton_python_backend_util as pb_utils",
            ),
            ("class TritonPythonModel", "class TritonModel"),
            ("class TritonPythonModel:", "class TritonPythonModel(nn.Module):"),
            ("def initialize(self, args):", "def initialize(self):"),
            ("def initialize(self, args):", "def initialise(self, args):"),
            ("def initialize(self, args):", "def initialize(args):"),
            ("def execute(self, requests):", "def execute(self, requests)"),
            ("def execute(self, requests):", "def excute(self, requests):"),
            ("def execute(self, requests):", "def execute(self):"),
            ("        responses = []\n", "    responses = []\n"),
            ("        return responses", "        return response"),
            ('args["model_config"]', 'args["config"]'),
            ('args["model_config"]', "args.model_config"),
            ("json.loads(args", "json.load(args"),
            ("json.loads(", "yaml.safe_load("),
            ("as_numpy()", "as_numpy("),
            ("import json\n", "import json\nimport torch\n"),
            ("import json\n", "import json\nimport onnxruntime as ort\n"),
            ("import json\n", "import json\nimport tritonclient.grpc as grpcclient\n"),
            ("import json\n", "import json\nfrom tensorrt_llm.runtime import ModelRunner\n"),
            ("import json\n", "import json\nimport sentencepiece\n"),
            ("import json\n", "import json\nfrom utils import helper\n"),
            (
                "import json\n",
                "import json\nimport logging, typing, pathlib, collections, threading, queue, uuid\n",
            ),
            ("import json\n", "import json\nfrom typing import List, Dict, Any, Optional\n"),
            ("import json\n", "import json\nfrom scipy.special import softmax\n"),
            (
                "    def execute",
                "    def execute(self, requests):\n        return None\n\n    def old_execute",
            ),
            (
                "    def initialize(self, args):\n",
                "    def initialize(self, args):\n        raise RuntimeError('not ready')\n",
            ),
            (
                "    def initialize(self, args):\n",
                "    def initialize(self, args):\n        self.model = load_model(args)\n",
            ),
            (
                "    def initialize(self, args):\n",
                "    def initialize(self, args):\n        assert os.path.exists('/models/x')\n",
            ),
            (
                "    def initialize(self, args):\n",
                "    def initialize(self, args):\n        self.x = open('/models/weights.bin', 'rb')\n",
            ),
            (
                "    def initialize(self, args):\n",
                "    def initialize(self, args):\n        self.x = np.load('/models/w.npy')\n",
            ),
            (
                "    def initialize(self, args):\n",
                "    def initialize(self, args):\n        print(args)\n",
            ),
            (
                "    def initialize(self, args):\n",
                "    def initialize(self, args):\n        self.ids = list(range(10))[3]\n",
            ),
        ]
    )
    draft = rng.choice([add_sub(), tokenizer()])
    draft.files["1/model.py"] = str(draft.files["1/model.py"]).replace(old, new, 1)
    return draft.tree()


@C.whole("mistakes in a configuration", 60)
def config_mistake(rng: Random) -> Tree:
    draft = rng.choice([add_sub(), tokenizer()])
    made = draft.render()
    old, new = rng.choice(
        [
            ('backend: "python"', 'backend: "pytorch"'),
            ('backend: "python"', 'platform: "python"'),
            ('backend: "python"', 'platform: "pytorch_libtorch"'),
            ('backend: "python"', "backend: python"),
            ('backend: "python"', 'backend: "tensorrtllm"'),
            ('backend: "python"', ""),
            ('backend: "python"', 'backend: "python"\nmax_batch_size: -1'),
            ("name: ", "model_name: "),
            ("_FP32", "_FLOAT32"),
            ("_FP32", "_BYTES"),
            ("TYPE_", "DT_"),
            ("dims: [ 4 ]", "dims: 4"),
            ("dims: [ 4 ]", "dims: [ 0 ]"),
            ("dims: [ 4 ]", "dims: [ ]"),
            ("dims: [ 4 ]", "dims: [ -1 ]"),
            ("dims: [ 4 ]", "shape: [ 4 ]"),
            ("dims: [ 4 ]", "dims: [ 4 ] reshape: { shape: [ 2, 2 ] }"),
            ("dims: [ 4 ]", "dims: [ 4 ] reshape: { shape: [ 2, 3 ] }"),
            ("input [", "inputs ["),
            ("},\n", "}\n"),
            ("]\n", "\n"),
            ("KIND_CPU", "KIND_GPU"),
            ("KIND_CPU", "CPU"),
            ("kind: KIND_CPU", "kind: KIND_CPU count: 2"),
            ("kind: KIND_CPU", "count: 1 gpus: [ 0 ]"),
            (
                "max_batch_size: 8",
                "max_batch_size: 8\ndynamic_batching { preferred_batch_size: [ 16 ] }",
            ),
            (
                "max_batch_size: 8",
                "max_batch_size: 8\ndynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }",
            ),
            ("max_batch_size: 8", "max_batch_size: 8\nsequence_batching { direct { } }"),
            ("max_batch_size: 8", "max_batch_size: 8\nbatching { }"),
            ("max_batch_size: 8", "max_batch_size: ${max_batch}"),
            ("max_batch_size: 8", "max_batch_size: eight"),
            (
                "max_batch_size: 8",
                'max_batch_size: 8\nparameters: { key: "limit" value: { string_value: "32" } }',
            ),
            (
                "max_batch_size: 8",
                'max_batch_size: 8\nparameters: { key: "limit" value: { string_value: "many" } }',
            ),
            (
                "max_batch_size: 8",
                'max_batch_size: 8\nparameters: { key: "limit" value: { string_value: "${limit}" } }',
            ),
            (
                "max_batch_size: 8",
                'max_batch_size: 8\nparameters: { key: "limit" value: { int_value: 3 } }',
            ),
            (
                "max_batch_size: 8",
                "max_batch_size: 8\nmodel_transaction_policy { decoupled: true }\nresponse_cache { enable: true }",
            ),
            (
                "max_batch_size: 8",
                "max_batch_size: 8\nversion_policy: { specific: { versions: [ 2 ] } }",
            ),
            ("max_batch_size: 8", "max_batch_size: 8\nversion_policy: { all: { } }"),
            (
                "max_batch_size: 8",
                'max_batch_size: 8\noptimization { execution_accelerators { gpu_execution_accelerator : [ { name : "tensorrt" } ] } }',
            ),
            ('name: "OUTPUT0"', 'name: "OUT0"'),
            ('name: "IDS"', 'name: "TEXT"'),
        ]
    )
    draft.text = made.replace(old, new)
    return draft.tree()


@C.whole("mistakes in a pipeline", 90)
def pipeline_mistake(rng: Random) -> Tree:
    drafts, ensemble = pipeline()
    which = rng.choice(
        [
            "rename",
            "order",
            "part",
            "missing",
            "input",
            "output",
            "type",
            "dims",
            "batch",
            "version",
            "key",
            "decoupled",
        ]
        + [
            "folder",
            "config",
            "loop",
            "twice",
            "extra",
            "instances",
            "code",
            "nested",
            "optional",
            "ragged",
        ]
    )
    if which == "rename":
        place, pair = (
            rng.randrange(3),
            rng.choice([("ids", "token_ids"), ("logits", "scores"), ("label", "labels")]),
        )
        ensemble.steps[place] = ensemble.steps[place].replace(f'"{pair[0]}"', f'"{pair[1]}"')
    elif which == "order":
        rng.shuffle(ensemble.steps)
    elif which == "part":
        place = rng.randrange(3)
        ensemble.steps[place] = ensemble.steps[place].replace('model_name: "~', 'model_name: "')
    elif which == "missing":
        drafts.pop(rng.choice(list(drafts)))
    elif which == "input":
        ensemble.inputs.append(tensor("extra"))
    elif which == "output":
        ensemble.outputs.append(
            tensor(
                "logits",
                rng.choice(["TYPE_FP32", "TYPE_FP16"]),
                rng.choice(["[ 2 ]", "[ -1 ]", "[ 3 ]"]),
            )
        )
    elif which == "type":
        drafts["classifier"].inputs = [
            tensor("IDS", rng.choice(["TYPE_INT64", "TYPE_INT32"]), "[ -1 ]")
        ]
    elif which == "dims":
        drafts["labels"].inputs = [
            tensor("LOGITS", "TYPE_FP32", rng.choice(["[ 2 ]", "[ 3 ]", "[ 2, 1 ]", "[ -1, -1 ]"]))
        ]
    elif which == "batch":
        rng.choice([*drafts.values(), ensemble]).head["max_batch_size"] = rng.choice(
            ["0", "1", "4", "16"]
        )
    elif which == "version":
        place = rng.randrange(3)
        new = rng.choice(["", "model_version: 1", "model_version: 2", "model_version: 0"])
        ensemble.steps[place] = ensemble.steps[place].replace("model_version: -1", new)
    elif which == "key":
        place = rng.randrange(3)
        ensemble.steps[place] = ensemble.steps[place].replace('key: "', 'key: "x')
    elif which == "decoupled":
        drafts[rng.choice(list(drafts))].more.append("model_transaction_policy { decoupled: true }")
        if rng.random() < 0.5:
            ensemble.outputs.append(tensor("ids", "TYPE_INT32", "[ -1 ]"))
    elif which == "folder":
        ensemble.files = rng.choice(
            [{}, {"1": None}, {"1/.gitkeep": ""}, {"2/.keep": "x"}, {"latest/x": "x"}]
        )
    elif which == "config":
        rng.choice(list(drafts.values())).config = rng.choice(
            ["1/config.pbtxt", "config.pbtxt.txt"]
        )
    elif which == "loop":
        ensemble.steps[0] = step("~pipeline", "text=text", "label=ids")
    elif which == "twice":
        ensemble.steps.append(rng.choice(ensemble.steps))
    elif which == "extra":
        ensemble.steps.append(step("~tokenizer", "TEXT=text", "IDS=more"))
    elif which == "instances":
        ensemble.more.append(
            rng.choice(
                [
                    "instance_group [ { kind: KIND_CPU } ]",
                    "dynamic_batching { }",
                    "optimization { }",
                ]
            )
        )
    elif which == "code":
        rng.choice(list(drafts.values())).files["1/model.py"] = rng.choice(
            ["", "import torch\n" + CODE, "def f(\n"]
        )
    elif which == "nested":
        outer = Ensemble([step("~pipeline", "text=x", "label=y")], parts=[], name="~outer")
        return together(drafts, ensemble) | outer.tree()
    elif which == "optional":
        drafts["labels"].inputs.append(
            tensor("THRESHOLD", "TYPE_FP32", "[ 1 ]", rng.choice(["optional: true", ""]))
        )
    elif which == "ragged":
        drafts["classifier"].inputs = [
            tensor("IDS", "TYPE_INT32", "[ -1 ]", "allow_ragged_batch: true")
        ]
    return together(drafts, ensemble)


@C.whole("mistakes in the layout", 60)
def layout_mistake(rng: Random) -> Tree:
    tree = rng.choice([add_sub().tree(), tokenizer().tree()])
    name = next(iter(tree)).partition("/")[0]
    config, code = tree[f"{name}/config.pbtxt"], tree[f"{name}/1/model.py"]
    return rng.choice(
        [
            {f"{name}/config.pbtxt": config, f"{name}/model.py": code},
            {f"{name}/1/config.pbtxt": config, f"{name}/1/model.py": code},
            {f"{name}/config.pbtxt": config, f"{name}/1/{name}/model.py": code},
            {f"{name}/{path.partition('/')[2]}": one for path, one in tree.items()}
            | {f"{name}/1/model.py": ""},
            tree | {"~notebooks/.ipynb_checkpoints/x": "x"},
            tree | {f"{name}/.ipynb_checkpoints/config-checkpoint.pbtxt": "x"},
            tree | {f"{name}/1/.ipynb_checkpoints/model-checkpoint.py": "x"},
            tree | {".~git/config": "x"},
            tree | {"~venv/bin/python": "x"},
            tree | {"~requirements.txt": "x", "~Dockerfile": "x"},
            tree | {f"{name}_backup/config.pbtxt": config, f"{name}_backup/1/model.py": code},
            tree
            | {
                f"{name}_v2/config.pbtxt": str(config).replace(name, f"{name}_v2"),
                f"{name}_v2/1/model.py": code,
            },
            {f"~models/{path}": one for path, one in tree.items()},
            {path.replace("/1/", "/v1/"): one for path, one in tree.items()},
            {path.replace("/1/", "/001/"): one for path, one in tree.items()},
            {path.replace("/1/", "/20240101/"): one for path, one in tree.items()},
            {path.replace("model.py", "Model.py"): one for path, one in tree.items()},
            {path.replace("model.py", "main.py"): one for path, one in tree.items()},
            {path.replace("config.pbtxt", "config.pbtext"): one for path, one in tree.items()},
            {path.replace("config.pbtxt", "config.json"): one for path, one in tree.items()},
            tree | {f"{name}/2/model.py": ""},
            tree | {f"{name}/2/weights.bin": "x"},
            tree | {f"{name}/0/model.py": "broken("},
            tree | {f"{name}/1/model.plan": "x"},
            tree | {f"{name}/config.pbtxt": ""},
            tree | {f"{name}/1/__pycache__/model.cpython-311.pyc": "x"},
            tree | {f"{name}/2": Link("1")},
            tree | {f"{name}/weights": Link("/mnt/nothing")},
            tree | {f"{name}/1/weights.bin": Link("/mnt/nothing")},
            tree | {"~config.pbtxt": config},
            tree | {"~onnx/1/model.onnx": "x"},
            tree | {"~trt/config.pbtxt": 'platform: "tensorrt_plan"', "~trt/1/model.plan": "x"},
        ]
    )


@C.whole("warm-ups of real models", 30)
def warmed(rng: Random) -> Tree:
    draft = Draft("~warm", {"backend": '"python"', "max_batch_size": rng.choice(["8", "0"])})
    draft.inputs, draft.outputs = (
        [tensor("a", "TYPE_FP32", "[ 4 ]")],
        [tensor("b", "TYPE_FP32", "[ -1 ]")],
    )
    draft.files = {"1/model.py": ANSWERS, "warmup/sample": b"\0" * rng.choice([16, 4])}
    data = rng.choice(
        [
            "zero_data: true",
            "random_data: true",
            'input_data_file: "sample"',
            'input_data_file: "absent"',
        ]
    )
    size = rng.choice(["[ 4 ]", "[ 4 ]", "[ 4 ]", "4", "[ 1, 4 ]", "[ -1 ]", "[ 2, 2 ]"])
    kind = rng.choice(["TYPE_FP32", "TYPE_FP32", "TYPE_FP32", "TYPE_FP16"])
    batch = rng.choice(["batch_size: 1", "batch_size: 1", "batch_size: 8", "batch_size: 9", ""])
    more = rng.choice(["", "", "count: 3", "iterations: 3"])
    key = rng.choice(["a", "a", "a", "A"])
    draft.more.append(
        f'model_warmup [ {{ name: "first" {batch} {more} inputs: {{ key: "{key}" value: {{ data_type: {kind} dims: {size} {data} }} }} }} ]'
    )
    return draft.tree()


@C.whole("sequences of real models", 24)
def sequences(rng: Random) -> Tree:
    draft = Draft(
        "~sequence", {"backend": '"python"', "max_batch_size": rng.choice(["8", "1", "0"])}
    )
    strategy = rng.choice(
        ["direct { max_queue_delay_microseconds: 10 }", "oldest { max_candidate_sequences: 8 }", ""]
    )
    old, new = rng.choice(
        [
            ("", ""),
            ("START", "BEGIN"),
            ("int32_false_true: [ 0, 1 ]", "int32_false_true: [ 0 ]"),
            ("int32_false_true: [ 0, 1 ]", "fp32_false_true: [ 0.0, 1.0 ]"),
            ("TYPE_UINT64", "TYPE_FP32"),
            ("TYPE_UINT64", "TYPE_STRING"),
            ('name: "READY"', 'name: "START"'),
            ("kind: CONTROL_SEQUENCE_READY", "kind: CONTROL_SEQUENCE_START"),
            ("data_type: TYPE_UINT64", ""),
        ]
    )
    text = f"""sequence_batching {{
  max_sequence_idle_microseconds: 5000000
  {strategy}
  control_input [
    {{ name: "START" control [ {{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }} ] }},
    {{ name: "READY" control [ {{ kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] }} ] }},
    {{ name: "CORRID" control [ {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }} ] }}
  ]
}}"""
    draft.more.append(text.replace(old, new) if old else text)
    return draft.tree()


@C.whole("completions of real models", 24)
def completions(rng: Random) -> Tree:
    old, new = rng.choice(
        [
            ("", ""),
            ("@staticmethod\n", "@classmethod\n"),
            ("    @staticmethod\n", ""),
            ("        return auto_complete_model_config\n", ""),
            ("return auto_complete_model_config", "return config"),
            ("set_max_batch_size(0)", "set_max_batch_size(16)"),
            ('"dims": [4]', '"dims": [-1]'),
            ('"dims": [4]', '"dims": []'),
            ('"TYPE_FP32"', '"TYPE_FLOAT"'),
            ('"data_type"', '"datatype"'),
            ("add_output", "add_outputs"),
            ("as_dict()", "to_dict()"),
        ]
    )
    code = COMPLETES.replace(old, new) if old else COMPLETES
    draft = add_sub("~auto", code)
    what = rng.choice(["none", "empty", "whole", "types", "batch"])
    if what == "none":
        draft.config = None
    elif what == "empty":
        draft.text = ""
    elif what == "types":
        draft.inputs = [tensor("INPUT0", "TYPE_INT32", "[ 4 ]")]
    elif what == "batch":
        draft.head["max_batch_size"] = "4"
    return draft.tree()
