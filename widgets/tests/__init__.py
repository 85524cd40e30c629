"""Tests of the views. A package, so that its modules may be named as those of the engine's tests are."""
