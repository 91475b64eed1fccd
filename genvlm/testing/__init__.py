"""Real components at tiny size, never mocks; imported by tests and `scripts/` alone."""
