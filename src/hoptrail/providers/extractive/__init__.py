"""The built-in backend, which plans, reads and concludes without a language model."""

from hoptrail.providers.extractive.backend import ExtractiveBackend

__all__ = ["ExtractiveBackend"]
