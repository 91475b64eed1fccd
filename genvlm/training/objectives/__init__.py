"""Objectives: a model and its loss in one module, which Accelerate or DeepSpeed wraps."""
