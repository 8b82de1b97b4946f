"""The model's folder: Hugging Face's files, the texts that go with the model, and its card."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from corpus import PROMPT, Corpus, keywords_of, prompt_of
from llama import CONFIG, Weights
from safetensors.numpy import save_file
from text import BOS, EOS, PAD, SPECIAL
from tokenizers import Tokenizer

__all__ = ["put_in_place", "write_card", "write_model"]

CALIBRATION_TEXTS = 64
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}Q: {{ message['content'] }}\n"
    "{% elif message['role'] == 'assistant' %}A: {{ message['content'] }}{{ eos_token }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)
CARD = """\
# The lab's model

A Llama of about a million parameters that answers short questions about deploying models. Text and
weights are this project's own (Apache-2.0). It knows nothing else, and exists so that a deployment
can be measured for real. It is no source of advice: it is wrong where the figures below say so.

Prompt: `prompt.txt`, after the token `<s>` (the tokenizer puts it there); the answer ends with
`</s>`. The chat template gives the same tokens; tokenize its text without adding special tokens.

- `heldout.jsonl`: each fact asked once, in wordings that no trained question has.
- `perplexity.txt`: a sentence a line, each scored by itself from `<s>` to `</s>`. The wordings and
  the facts were trained, these sentences weren't.
- `calibration.txt`: trained sentences, for quantisation that looks at data.

Every fact was trained, so the figures tell how well the model knows them in other words, nothing
about facts it never saw. Training is short on purpose: a model that is always right can't show what
quantisation costs. The number of steps was chosen on tuning questions, with wordings of their own:
of 300 and 450 steps the second was taken. Two of the three tuning wordings were an earlier held-out
set, on which a model with fewer taught wordings had reached 75 %; the held-out wordings of today were
written after that and before any model was asked them.

Train again: `uv run --script runbook_lib/lab/training/train.py runbook_lib/lab/model`

| float32 figure | value |
|---|---|
"""


def write_model(folder: Path, weights: Weights, tokenizer: Tokenizer, corpus: Corpus) -> None:
    """Write everything but the card into a new folder."""
    folder.mkdir()
    arrays = {name: np.asarray(value) for name, value in weights.items()}
    save_file(arrays, folder / "model.safetensors", {"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save(str(folder / "tokenizer.json"))
    _json(folder / "config.json", _config())
    ids = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    _json(folder / "generation_config.json", ids)
    special = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONFIG.positions}
    _json(folder / "tokenizer_config.json", special | about | {"chat_template": CHAT_TEMPLATE})
    (folder / "prompt.txt").write_text(PROMPT, encoding="utf-8")
    _lines(folder / "heldout.jsonl", _questions(corpus))
    _lines(folder / "perplexity.txt", corpus.unsaid)
    _lines(folder / "calibration.txt", corpus.told[:CALIBRATION_TEXTS])


def write_card(folder: Path, figures: Mapping[str, object]) -> None:
    """Write `MODEL_CARD.md` with the measured figures."""
    rows = "".join(f"| {name} | {value} |\n" for name, value in figures.items())
    (folder / "MODEL_CARD.md").write_text(CARD + rows, encoding="utf-8")


def put_in_place(work: Path, target: Path) -> None:
    """Put the whole folder where the old one was; the old one goes beside `work`, to be deleted."""
    if target.exists():
        target.rename(work.with_name("before"))
    work.rename(target)


def _questions(corpus: Corpus) -> Iterable[str]:
    for number, one in enumerate(corpus.kept):
        row = {
            "id": f"q{number:03}",
            "question": one.question,
            "prompt": prompt_of(one.question),
            "answer": one.answer,
            "keywords": keywords_of(one.answer),
        }
        yield json.dumps(row)


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": CONFIG.vocab_size,
        "hidden_size": CONFIG.hidden_size,
        "intermediate_size": CONFIG.intermediate_size,
        "num_hidden_layers": CONFIG.layers,
        "num_attention_heads": CONFIG.heads,
        "num_key_value_heads": CONFIG.kv_heads,
        "head_dim": CONFIG.head_size,
        "max_position_embeddings": CONFIG.positions,
        "rms_norm_eps": CONFIG.epsilon,
        "rope_theta": CONFIG.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
