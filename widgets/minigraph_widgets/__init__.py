"""Views of computational graphs for notebooks, and for pages with no kernel."""

from .player import PropagationPlayer
from .view import View

__all__ = ["PropagationPlayer", "View"]
