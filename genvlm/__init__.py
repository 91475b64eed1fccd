"""genvlm: a framework for generative vision-language world models."""

__version__ = "0.1.0"
