"""Functions that compilers can turn into vector instructions: exp, log, tanh and their kin, as C."""

from typing import Any

FUNCTIONS: dict[str, dict[str, Any]] = {}  # name -> {dtype: what has `name`, the C name, and `texts`, {name: C text}}
