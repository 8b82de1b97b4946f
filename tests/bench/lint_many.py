"""How long the lint takes for 1,000 models: Python models, and an ensemble for every ten of them."""

import json
import shutil
import tempfile
import time
from pathlib import Path

from runbook_lib.repository.lint import lint
from runbook_lib.repository.skeleton import skeleton

MODELS = 1000
CODE = """\
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.type = pb_utils.triton_string_to_numpy(config["output"][0]["data_type"])

    def execute(self, requests):
        made = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "a").as_numpy()
            made.append(pb_utils.InferenceResponse([pb_utils.Tensor("b", given.astype(self.type))]))
        return made
"""
CONFIG = """\
backend: "python"
max_batch_size: 8
input [ { name: "a" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "b" data_type: TYPE_FP32 dims: [ -1 ] } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
instance_group [ { count: 1 kind: KIND_CPU } ]
"""


def lay_out(root: Path) -> None:
    for number in range(MODELS):
        folder = root / f"model_{number:04d}"
        (folder / "1").mkdir(parents=True)
        if number % 10:
            (folder / "config.pbtxt").write_text(CONFIG)
            (folder / "1" / "model.py").write_text(CODE)
        else:
            (folder / "config.pbtxt").write_text(ensemble(number))
            (folder / "1" / "placeholder.txt").write_text("kept\n")


def ensemble(number: int) -> str:
    return f"""\
platform: "ensemble"
max_batch_size: 8
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ -1 ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ -1 ] }} ]
ensemble_scheduling {{
  step [
    {{ model_name: "model_{number + 1:04d}" model_version: -1
      input_map {{ key: "a" value: "x" }} output_map {{ key: "b" value: "t" }} }},
    {{ model_name: "model_{number + 2:04d}" model_version: -1
      input_map {{ key: "a" value: "t" }} output_map {{ key: "b" value: "y" }} }}
  ]
}}
"""


def main() -> None:
    root = Path(tempfile.mkdtemp())
    try:
        skeleton(root / "warm")
        lint(root / "warm")  # what is imported once is not counted
        lay_out(root / "models")
        took = []
        for _ in range(3):
            began = time.process_time()
            result = lint(root / "models")
            took.append(round(time.process_time() - began, 3))
            assert result.ok, str(result)[:500]
        print(json.dumps({"models": MODELS, "cpu_seconds": took, "best_s": min(took)}))  # noqa: T201
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
