"""Benchmarks made of the data that ships with the package: a loader, a rule and a card each."""
