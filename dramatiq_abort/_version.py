"""The version, by itself so that the build can read it without importing the package."""

__version__ = "2.0.0.dev0"
