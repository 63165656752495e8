"""The version, in a place that anyone may import."""

__version__ = "0.1.0"
