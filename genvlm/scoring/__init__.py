"""Scorers: how well each text fits each image, from whatever model."""
