"""The catalogue: every operation and function of minigraph, by public name."""

from .conv import *
from .creation import *
from .elementwise import *
from .index import *
from .linalg import *
from .network import *
from .reduction import *
from .shape import *
from .special import *

from . import methods, random  # isort: skip
from .control import *  # isort: skip
