"""Diffusion backbones: noise schedule, network, latent space and text encoder are four objects."""
