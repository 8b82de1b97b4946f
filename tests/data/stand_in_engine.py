"""Stands in for the `tensorrtllm` backend, which needs a GPU: answers with the prompt's own tokens.

It takes and gives every tensor of its configuration, streams a token a response when asked to, and
refuses what the backend refuses.
"""

import json

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.outputs = config["output"]
        self.decoupled = pb_utils.using_decoupled_model_transaction_policy(config)

    def execute(self, requests):
        for request in requests:
            self._answer(request, request.get_response_sender())

    def _answer(self, request, sender):
        given = {one.name(): one.as_numpy() for one in request.inputs()}
        streams = bool(given.get("streaming", np.zeros(1)).any())
        if streams and not self.decoupled:
            text = "Streaming is only supported if model is deployed using decoupled mode."
            sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(text)), FINAL)
            return
        count = min(int(given["input_lengths"].item()), int(given["request_output_len"].item()))
        tokens = given["input_ids"].reshape(-1)[:count].tolist()
        parts = [[one] for one in tokens] if streams else [tokens]
        for part in parts:
            flags = 0 if self.decoupled else FINAL
            sender.send(pb_utils.InferenceResponse(self._tensors(part, given)), flags)
        if self.decoupled:
            sender.send(flags=FINAL)

    def _tensors(self, tokens, given):
        known = {
            "output_ids": np.array([[tokens]], np.int32),
            "sequence_length": np.array([[len(tokens)]], np.int32),
            "num_input_tokens": np.array([[given["input_lengths"].item()]], np.int32),
            "num_output_tokens": np.array([[len(tokens)]], np.int32),
        }
        return [
            pb_utils.Tensor(one["name"], known.get(one["name"], nothing(one)))
            for one in self.outputs
        ]


def nothing(output):
    """A zero of the shape that an output has where nothing was asked for."""
    kind = pb_utils.triton_string_to_numpy(output["data_type"])
    return np.zeros([1, *(abs(int(one)) for one in output["dims"])], kind)
