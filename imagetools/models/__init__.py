"""The models that the package carries."""
