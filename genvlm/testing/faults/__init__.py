"""Faults that training must survive: each row of `scripts/faults` is a function in here."""
