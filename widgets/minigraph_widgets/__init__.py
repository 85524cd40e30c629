"""Views of computational graphs for notebooks, and for pages with no kernel."""

from pathlib import Path

from minigraph.errors import overlook

from .explorer import GraphExplorer
from .memory import MemoryTimeline
from .passes import PassExplorer
from .player import PropagationPlayer
from .profile import Profile
from .side import SideBySide
from .training import Training
from .view import View

__all__ = [
    "GraphExplorer",
    "MemoryTimeline",
    "PassExplorer",
    "Profile",
    "PropagationPlayer",
    "SideBySide",
    "Training",
    "View",
]

overlook(str(Path(__file__).parent))
