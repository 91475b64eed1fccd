"""Benchmarks: genvlm beside transformers and taming, same weights, one process, equal answers."""
