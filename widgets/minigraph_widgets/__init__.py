"""Views of computational graphs for notebooks, and for pages with no kernel."""

from .memory import MemoryTimeline
from .passes import PassExplorer
from .player import PropagationPlayer
from .profile import Profile
from .side import SideBySide
from .view import View

__all__ = ["MemoryTimeline", "PassExplorer", "Profile", "PropagationPlayer", "SideBySide", "View"]
