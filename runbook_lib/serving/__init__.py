"""Serving: start, watch and describe the servers that answer for a model."""
