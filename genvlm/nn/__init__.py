"""Layers and tensors on disk. Nothing here knows a configuration."""
