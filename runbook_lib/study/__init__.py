"""Studies over all stages: what a choice costs to build and what it gives when served."""
