"""The decoder-only transformer over text, image and video tokens."""
