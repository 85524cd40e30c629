"""The catalogue: every operation and function of minigraph, by public name."""

from .conv import *
from .linalg import *
