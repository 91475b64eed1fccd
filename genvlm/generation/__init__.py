"""Sampling documents: text, images, and both interleaved."""
