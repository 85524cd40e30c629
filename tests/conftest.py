"""How Hypothesis looks for counterexamples: without a deadline, since machines differ, and the same ones every time in CI."""

import os

from hypothesis import settings

settings.register_profile("minigraph", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("minigraph")
