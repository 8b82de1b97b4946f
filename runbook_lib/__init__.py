"""Runbooks that take a model from weights to a measured TensorRT-LLM service on KServe and Triton."""
