"""Settings shared by all tests."""

from __future__ import annotations

from hypothesis import settings

# Machines are noisy: a test must not fail because one example took long.
settings.register_profile("baldro", deadline=None, derandomize=True)
settings.load_profile("baldro")
