"""Random orders and numbers that depend on names alone."""

import hashlib


def hash_rank(name: str) -> str:
    """Sorted by it, things stand in an order that has nothing to do with what they are."""
    return hashlib.sha256(name.encode()).hexdigest()


def hash_share(name: str) -> float:
    """A number from 0 to 1, not 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big") / 2**56
