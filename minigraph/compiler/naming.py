"""Names in the C text: arguments, results and constants are called what the user calls them, as far as C allows."""

from __future__ import annotations

import re

WORDS = """auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
memcpy memset impatient main int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t size_t
p q c s t y z b i arena status last spent start now before run stop from to yes no bad"""
TAKEN = frozenset(WORDS.split())
FUNCTIONS = re.compile(r"(k|i|body)\d+(_.*)?|(mg|omp|product|transpose|conv|max_pool|avg_pool)_?.*")


class Names:
    """Identifiers, each given out once.

    >>> names = mg.compiler.naming.Names()
    >>> [names("0.weight"), names("0.weight"), names("y"), names("learning rate")]
    ['_0_weight', '_0_weight_2', 'y_', 'learning_rate']
    """

    def __init__(self) -> None:
        self.given: set[str] = set()

    def __call__(self, wish: str) -> str:
        name = re.sub(r"\W", "_", wish, flags=re.ASCII) or "unnamed"
        if name[0].isdigit():
            name = f"_{name}"
        if name in TAKEN or FUNCTIONS.fullmatch(name):
            name += "_"
        found, k = name, 2
        while found in self.given:
            found, k = f"{name}_{k}", k + 1
        self.given.add(found)
        return found
