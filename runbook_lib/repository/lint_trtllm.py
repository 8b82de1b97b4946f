"""What a TensorRT-LLM repository loads with and will hurt by: warnings beyond Triton's verdict.

Every rule stands in `RULES`. Each looks at one model of the `tensorrtllm` backend with what is around
it: its parameters, the engine beside it, the tokenizers of the models that write and read its tokens.
None of them changes what Triton says, so none makes a repository unfit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from runbook_lib.repository.config import near
from runbook_lib.repository.findings import Model
from runbook_lib.repository.lint_trtllm_facts import Deployed, deployed, limit
from runbook_lib.repository.lint_trtllm_tokens import tokens_differ, vocabulary, words_end
from runbook_lib.repository.templates import known_parameters

__all__ = ["BACKEND", "RULES", "Rule", "check_trtllm"]

BACKEND = "tensorrtllm"
TIGHT = 0.95
MANY_PROCESSES = 8
Said = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Rule:
    """One thing that hurts: `look` yields what was found and what to do about it."""

    name: str
    look: Callable[[Deployed], Said]


def check_trtllm(models: Sequence[Model]) -> None:
    """Note what will hurt in each model that runs an engine, and that Triton does not refuse."""
    for model in models:
        if model.backend == BACKEND and model.config is not None and not model.fails:
            seen = deployed(model, models)
            for rule in RULES:
                for message, fix in rule.look(seen):
                    model.warn(rule.name, message, fix)


# -- parameters ------------------------------------------------------------------------------------


def _parameters(seen: Deployed) -> Said:
    known = known_parameters("tensorrt_llm")
    for name, value in seen.parameters.items():
        if name not in known:
            yield f"The backend reads no parameter {name}.", near(name, known)
        elif (problem := known[name].problem(value)) and "${" not in value and value:
            default = known[name].default or "its default"
            message = f"The parameter {name} {problem}; the backend logs that and takes {default}."
            yield message, f"It means: {known[name].means}."


def _batching(seen: Deployed) -> Said:
    given = seen.parameters.get("gpt_model_type", "")
    if given in {"inflight_fused_batching", "inflight_batching"}:
        return
    said = f"is {given}" if given else "is missing"
    more = ", and nothing streams" if seen.decoupled else ""
    yield (
        f"gpt_model_type {said}: a batch is run to its end before the next one starts{more}.",
        "Set the parameter gpt_model_type to inflight_fused_batching.",
    )


def _input_in_output(seen: Deployed) -> Said:
    if not seen.is_on("exclude_input_in_output"):
        yield (
            (
                "exclude_input_in_output is not true: an answer that is not streamed begins with its "
                "prompt, and its length counts the prompt's tokens."
            ),
            "Set the parameter exclude_input_in_output to true.",
        )


# -- memory ----------------------------------------------------------------------------------------


def _kv_memory(seen: Deployed) -> Said:
    fraction = seen.number("kv_cache_free_gpu_mem_fraction")
    tokens = seen.number("max_tokens_in_paged_kv_cache")
    if fraction is None and tokens is None:
        yield (
            "Nothing limits the KV cache: the backend takes 0.9 of the memory that is left.",
            "Set the parameter kv_cache_free_gpu_mem_fraction, to leave room for other models.",
        )
    if fraction is not None and TIGHT < fraction <= 1:
        yield (
            (
                f"kv_cache_free_gpu_mem_fraction is {fraction:g}: a long prompt may find no memory for "
                "its activations."
            ),
            f"Set it to {TIGHT} or less.",
        )
    longest = limit(seen.engine, "max_seq_len")
    if tokens is not None and longest is not None and tokens < longest:
        yield (
            (
                f"max_tokens_in_paged_kv_cache is {tokens:g}, less than one sequence of the engine's "
                f"max_seq_len {longest}: the longest ones are refused."
            ),
            f"Set it to {longest} or more, or leave it out.",
        )


def _shared_memory(seen: Deployed) -> Said:
    processes = sum(
        max(group.count, 1)
        for model in seen.models
        if model.backend == "python" and model.config is not None
        for group in model.config.instance_group
    )
    if processes > MANY_PROCESSES:
        yield (
            (
                f"{processes} processes of Python models share /dev/shm, which has 64 MiB in a pod that "
                "says nothing about it."
            ),
            (
                "Give the pod an emptyDir in memory at /dev/shm (kserve.shared_memory in the profile), "
                "or fewer instances."
            ),
        )


def _instances(seen: Deployed) -> Said:
    count = sum(max(group.count, 1) for group in seen.model.config.instance_group)
    if count > 1 and "gpu_device_ids" not in seen.parameters:
        yield (
            f"{count} instances load the engine {count} times on the same GPUs.",
            "Use one instance, or give each its GPUs by gpu_device_ids.",
        )


# -- what clients see --------------------------------------------------------------------------------


def _streaming(seen: Deployed) -> Said:
    for one in seen.entries:
        offers = {"stream", "streaming"} & {tensor.name for tensor in one.config.input}
        if offers and not seen.decoupled:
            yield (
                (
                    f"{one.name} takes {min(offers)}, and the engine's model is not decoupled: a "
                    "request to stream is refused."
                ),
                "Set model_transaction_policy { decoupled: true } in it.",
            )
        differs = one.config.model_transaction_policy.decoupled != seen.decoupled
        if not one.is_ensemble and differs:
            yield (
                f"{one.name} and the engine's model differ in decoupled: calls between them fail.",
                "Set model_transaction_policy to the same in both.",
            )


def _beams(seen: Deployed) -> Said:
    width = seen.number("max_beam_width")
    built = limit(seen.engine, "max_beam_width")
    if width is not None and built is not None and width > built:
        yield (
            f"max_beam_width is {width:g}, and the engine was built for {built}.",
            f"Set it to {built}, or build with --max_beam_width {width:g}.",
        )
    if width is not None and width > 1 and seen.decoupled:
        yield (
            (
                f"max_beam_width is {width:g} in a model that streams: beams change until the end, so "
                "what was streamed may not be the answer."
            ),
            "Set it to 1, or serve beam search from a model that is not decoupled.",
        )


def _limits(seen: Deployed) -> Said:
    served, built = seen.model.config.max_batch_size, limit(seen.engine, "max_batch_size")
    if built is not None and served > built:
        yield (
            (
                f"max_batch_size is {served}, and the engine was built for {built}: a larger batch "
                "waits inside the engine, or is refused."
            ),
            f"Set max_batch_size to {built}.",
        )


def _needed_inputs(seen: Deployed) -> Said:
    wanted = {
        "stop_words_list": "stop words have no effect",
        "end_id": "an answer ends at max_tokens only",
    }
    for one in seen.entries:
        steps = one.config.ensemble_scheduling.step if one.is_ensemble else ()
        for step in steps:
            if step.model_name != seen.model.name:
                continue
            for name, hurts in wanted.items():
                if name not in step.input_map:
                    yield (
                        f"{one.name} gives {step.model_name} no {name}: {hurts}.",
                        f"Add {name} to the input_map of the step {step.model_name}.",
                    )


# -- the engine --------------------------------------------------------------------------------------


def _engine(seen: Deployed) -> Said:
    given = seen.parameters.get("gpt_model_path", "")
    if given and "${" not in given and not given.startswith("/"):
        yield (
            f"gpt_model_path is {given!r}: it starts at the folder that the server was started in.",
            "Write the absolute path that the server sees.",
        )
    if seen.engine is None and seen.is_beside:
        yield (
            "gpt_model_path is this model's version folder, and no engine lies there.",
            "Put config.json and rank*.engine there before it is served.",
        )
    if missing := seen.missing_ranks:
        yield (
            f"The engine lacks {', '.join(missing)}.",
            "Copy the whole folder that trtllm-build wrote.",
        )


def _paged_context(seen: Deployed) -> Said:
    plugins = (
        {} if seen.engine is None else seen.engine.get("build_config", {}).get("plugin_config")
    )
    if not plugins or plugins.get("use_paged_context_fmha", True):
        return
    for name in ("enable_kv_cache_reuse", "enable_chunked_context"):
        if seen.is_on(name):
            yield (
                f"{name} is true, and the engine was built without paged context attention.",
                "Build with --use_paged_context_fmha enable, or set it to false.",
            )


RULES = (
    Rule("trtllm_parameter", _parameters),
    Rule("trtllm_batching", _batching),
    Rule("trtllm_input_in_output", _input_in_output),
    Rule("trtllm_kv_memory", _kv_memory),
    Rule("trtllm_shared_memory", _shared_memory),
    Rule("trtllm_instances", _instances),
    Rule("trtllm_streaming", _streaming),
    Rule("trtllm_beams", _beams),
    Rule("trtllm_limits", _limits),
    Rule("trtllm_inputs", _needed_inputs),
    Rule("trtllm_engine", _engine),
    Rule("trtllm_paged_context", _paged_context),
    Rule("trtllm_vocabulary", vocabulary),
    Rule("trtllm_tokenizers", tokens_differ),
    Rule("trtllm_stop_words", words_end),
)
