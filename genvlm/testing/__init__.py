"""Real components at tiny size, for tests: never mocks. Only tests import this package."""
