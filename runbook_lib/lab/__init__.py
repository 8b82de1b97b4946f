"""The embedded lab: real S3, real Triton, a small real model, and its compiler for this CPU."""
