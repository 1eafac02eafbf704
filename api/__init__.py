"""The HTTP side of Hooktape, its command line, and the root that puts the parts together."""

__version__ = "0.1.0"
