"""Two small repositories to learn from: the guide's own layout, and one that Triton serves.

    guide_layout                      skeleton
    ├── ensemble/1/config.pbtxt       ├── ensemble/config.pbtxt
    │                                 ├── ensemble/1/placeholder.txt
    ├── tensorrt_llm_bls/1/           ├── tensorrt_llm_bls/config.pbtxt
    │   ├── config.pbtxt              ├── tensorrt_llm_bls/1/model.py
    │   └── model.plan                │
    └── tokenizer/1/                  ├── tokenizer/config.pbtxt
        ├── config.pbtxt              └── tokenizer/1/model.py
        └── tokenizer.json

Triton refuses the first for every model and serves the second: `/v2/models/ensemble/generate`
answers `text_input` and `max_tokens` with `text_output` and `output_lengths`. Its engine is a
stand-in that answers with the prompt's own tokens; `tensorrt_llm_bls/1/model.py` says where the
real one goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from runbook_lib.errors import RepositoryError

__all__ = ["guide_layout", "skeleton"]

MODELS = Path(__file__).resolve().parent / "skeleton_models"
PLACEHOLDER = (
    "An ensemble has no files of its own, and object stores know no empty folders:\n"
    "without a file that is not empty, this version would vanish on its way to the server.\n"
)

GUIDE_TENSORS = """\
input [
  { name: "text_input" data_type: TYPE_BYTES dims: [1] }
]
output [
  { name: "text_output" data_type: TYPE_BYTES dims: [1] }
]
"""
GUIDE_ENSEMBLE = f"""\
name: "ensemble"
platform: "ensemble"
max_batch_size: 64
{GUIDE_TENSORS}ensemble_scheduling {{
  step [
    {{ model_name: "tensorrt_llm_bls" input_map {{ key: "text_input" value: "text_input" }} output_map {{ key: "text_output" value: "text_output" }} }}
  ]
}}
"""  # noqa: E501 - the guide's own line
# The guide shows the ensemble's configuration only; these two follow its style.
GUIDE_ENGINE = f"""\
name: "tensorrt_llm_bls"
backend: "tensorrtllm"
max_batch_size: 64
{GUIDE_TENSORS}"""
GUIDE_TOKENIZER = f"""\
name: "tokenizer"
backend: "python"
max_batch_size: 64
{GUIDE_TENSORS}"""
GUIDE_TREE = {
    "tensorrt_llm_bls/1/model.plan": "In the guide, the TensorRT engine stands here.\n",
    "tensorrt_llm_bls/1/config.pbtxt": GUIDE_ENGINE,
    "tokenizer/1/tokenizer.json": "{}\n",
    "tokenizer/1/config.pbtxt": GUIDE_TOKENIZER,
    "ensemble/1/config.pbtxt": GUIDE_ENSEMBLE,
}


def guide_layout(folder: Path) -> list[Path]:
    """Write the deployment guide's repository as it is printed: Triton loads none of its models.

    Args:
        folder: where to; must not exist, or be an empty folder.

    Returns:
        The files written, sorted.

    Raises:
        RepositoryError: the folder holds something, or can't be written.
    """
    return _write(folder, GUIDE_TREE)


def skeleton(folder: Path) -> list[Path]:
    """Write the same three models so that any Triton with the python backend loads and serves them.

    Args:
        folder: where to; must not exist, or be an empty folder.

    Returns:
        The files written, sorted.

    Raises:
        RepositoryError: the folder holds something, or can't be written.
    """
    tree = {"ensemble/1/placeholder.txt": PLACEHOLDER}
    for config in sorted(MODELS.glob("*/config.pbtxt")):
        tree[f"{config.parent.name}/config.pbtxt"] = config.read_text("utf-8")
    for code in sorted(MODELS.glob("*/model.py")):
        tree[f"{code.parent.name}/1/model.py"] = code.read_text("utf-8")
    return _write(folder, tree)


def _write(folder: Path, tree: Mapping[str, str]) -> list[Path]:
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RepositoryError(
                f"{folder} exists and is not an empty folder.",
                why="An example is never written over a repository.",
                fix=f"Choose another folder, or remove this one first: rm -r {folder}",
            )
        for name, text in tree.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise RepositoryError(
            f"The example could not be written to {folder}.",
            why=str(error),
            fix="Make room or choose another folder.",
        ) from error
    return sorted(folder / name for name in tree)
