"""Configuration: frozen dataclasses without torch, read strictly from YAML."""
