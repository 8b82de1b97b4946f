"""How well an engine foresees texts: the log-probability of each of their tokens.

    python score_engine.py ENGINE_DIR --texts FILE --tokenizer tokenizer.json

Each line is scored by itself, from `<s>` before it to `</s>` after it. Prints JSON with the number
of tokens and their perplexity; returns 1 when the engine can't run here.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from engine_runtime import EngineError, load
from tokenizers import Tokenizer

__all__ = ["main"]


def main() -> int:
    """Read the command line, score, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine_dir", type=Path)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.tokenizer))
    texts = options.texts.read_text(encoding="utf-8").splitlines()
    try:
        loaded = load(options.engine_dir)
    except EngineError as error:
        print(json.dumps({"ok": False, "problems": [str(error)]}))
        return 1
    end = loaded.config["pretrained_config"]["eos_token_id"]
    found: list[float] = []
    for number, text in enumerate(texts):
        found += _logprobs(loaded.pipeline, number, [*tokenizer.encode(text).ids, end])
    mean = math.fsum(found) / len(found)
    print(json.dumps({"ok": True, "tokens": len(found), "perplexity": math.exp(-mean)}))
    return 0


def _logprobs(pipeline: Any, number: int, ids: list[int]) -> list[float]:
    """Natural log-probabilities of every token but the first, which nothing comes before."""
    import numpy as np
    import openvino
    import openvino_genai

    # The pipeline scores a prompt only where it also generates: one token, which is left out.
    options = openvino_genai.GenerationConfig(
        max_new_tokens=1, echo=True, logprobs=1, ignore_eos=True
    )
    prompt = openvino.Tensor(np.array([ids], dtype=np.int64))
    handle = pipeline.add_request(number, prompt, options)
    while pipeline.has_non_finished_requests():
        pipeline.step()
    return list(handle.read_all()[0].generated_log_probs)[1 : len(ids)]


if __name__ == "__main__":
    sys.exit(main())
