"""Benchmarks, decision rules, controls, statistics and the records that tie them together."""
