"""Stands in for the package `tensorrt_llm`, which needs a GPU: the LLM API, answering with the prompt.

A token is a word with the space before it.
"""

import asyncio
import re
from types import SimpleNamespace


class SamplingParams:
    def __init__(self, max_tokens=32, **more):
        self.max_tokens = max_tokens
        unknown = more.keys() - {"temperature", "top_k", "top_p", "seed", "stop", "best_of"}
        if unknown:
            raise ValueError(f"no such sampling parameter: {unknown}")
        self.stop = more.get("stop") or []


class LLM:
    def __init__(self, **arguments):
        if not {"model", "backend", "tensor_parallel_size"} <= arguments.keys():
            raise ValueError(f"arguments are missing: {sorted(arguments)}")

    def generate_async(self, prompt, sampling_params, streaming=False):
        return Answer(prompt, sampling_params, streaming)

    def shutdown(self):
        pass


class Answer:
    def __init__(self, prompt, params, streaming):
        asyncio.get_running_loop()  # as the real one: only where a loop runs
        self.prompt = prompt
        self.prompt_token_ids = self.tokens = re.findall(r"\s*\S+", prompt)
        self.params, self.streaming, self.aborted = params, streaming, False
        self.outputs = []

    def abort(self):
        self.aborted = True

    def _upto(self, count):
        sent = self.tokens[:count]
        self.outputs = [
            SimpleNamespace(
                text="".join(sent),
                token_ids=list(range(count)),
                text_diff=sent[-1],
                token_ids_diff=[count],
                finish_reason="stop" if count < len(self.tokens) else "length",
                stop_reason=None,
                cumulative_logprob=-0.5,
            )
        ]
        return self

    def _last(self):
        stops = [n for n, one in enumerate(self.tokens, 1) if one.strip() in self.params.stop]
        return min([self.params.max_tokens, len(self.tokens), *stops])

    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return self._upto(self._last())

    async def __aiter__(self):
        for count in range(1, self._last() + 1):
            if self.aborted:
                return
            await asyncio.sleep(0.01)
            yield self._upto(count)
