"""Talking to Kubernetes: objects as plain dictionaries, what the API server says as our errors."""
