"""Benchmarks that say what was measured, how surely, and what they can't tell."""
