"""How Hypothesis looks for counterexamples: with no deadline, as machines differ; in CI, the same ones every time."""

import os

from hypothesis import settings

settings.register_profile("minigraph", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("minigraph")
