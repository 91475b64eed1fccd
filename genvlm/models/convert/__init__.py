"""Foreign checkpoints, both ways: Chameleon (Hugging Face, Meta) and VQ-GANs (taming, LlamaGen)."""
