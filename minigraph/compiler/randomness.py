"""Random numbers in C: the generator of `backend/philox.py`, and what `ops/random.py` makes of its words.

Element i of a draw is a function of the state and of i, so any part of it can be made by itself, by any thread. It is
no expression for loops all the same: ten rounds make eight 32-bit words together, and each element would make them all
again to use one. So a draw is a function that goes through its result in pieces: first the words of a piece, into a
buffer that stays in the nearest cache, then, in a loop of vectors, the numbers that they become. All arithmetic is that
of dynamic mode, operation by operation, and so are the bits; only logarithm, sine and cosine of normal numbers have
last digits of their own.
"""

from __future__ import annotations

import math
import zlib

import numpy as np

from ..backend.philox import MULTIPLIERS, WEYL
from ..tensor import Tensor
from .expressions import Writer, c_type, literal
from .loops import DTYPES, Views
from .statements import Statement, writes
from .threads import WORTH, threads

PIECE = 512  # numbers that are made at a time
WORD, NORMAL_PAIR = 1.0, 6.0  # nanoseconds that a word takes, and a pair of normal numbers besides its words, about

WORDS = f"""
/* The 32-bit words first, first + 1, ... of the stream that a state (key, counter) gives, eight for each step of the
   counter (Philox4x64-10). The buffer has room for 14 more than are asked for. Returns where the first one is. */
static const uint32_t *mg_random_words(const uint64_t *state, long step, long first, long n, uint32_t *buffer) {{
  for (long block = first / 8; block * 8 < first + n; block++) {{
    uint64_t c0 = state[step] + (uint64_t)block, c1 = c0 < state[step], c2 = 0, c3 = 0;
    uint64_t k0 = state[0], k1 = 0;
    for (int round = 0; round < 10; round++) {{
      unsigned __int128 a = (unsigned __int128)c0 * {MULTIPLIERS[0]:#x}ULL;
      unsigned __int128 b = (unsigned __int128)c2 * {MULTIPLIERS[1]:#x}ULL;
      c0 = (uint64_t)(b >> 64) ^ c1 ^ k0, c1 = (uint64_t)b, c2 = (uint64_t)(a >> 64) ^ c3 ^ k1, c3 = (uint64_t)a;
      k0 += {WEYL[0]:#x}ULL, k1 += {WEYL[1]:#x}ULL;
    }}
    uint64_t made[4] = {{c0, c1, c2, c3}};
    for (int i = 0; i < 8; i++) buffer[(block - first / 8) * 8 + i] = (uint32_t)(made[i / 2] >> (i % 2 * 32));
  }}
  return buffer + first % 8;
}}
"""
# {words}: how many words an element takes; {number}: the element, made from the words w[i] or w[2 * i], w[2 * i + 1]
EACH = """
static void {name}(const uint64_t *state, long step, {T} *out) {{{pragma}
  for (long at = 0; at < {n}; at += {piece}) {{
    uint32_t buffer[{piece} * {words} + 14];
    long count = {n} - at < {piece} ? {n} - at : {piece};
    const uint32_t *w = mg_random_words(state, step, at * {words}, count * {words}, buffer);
    for (long i = 0; i < count; i++) out[at + i] = {number};
  }}
}}
"""
# by Box and Muller: numbers i and half + i are made from the uniform numbers i and half + i
NORMAL = """
static void {name}(const uint64_t *state, long step, {T} *out) {{{pragma}
  for (long at = 0; at < {half}; at += {piece}) {{
    uint32_t near[{piece} * {words} + 14], far[{piece} * {words} + 14];
    {T} radius[{piece}], angle[{piece}];
    long count = {half} - at < {piece} ? {half} - at : {piece};
    long count2 = {n} - {half} - at < count ? {n} - {half} - at : count;
    const uint32_t *w = mg_random_words(state, step, at * {words}, count * {words}, near);
    for (long i = 0; i < count; i++) radius[i] = {sqrt}({log}({number}) * -2);
    w = mg_random_words(state, step, ({half} + at) * {words}, count * {words}, far);
    for (long i = 0; i < count; i++) angle[i] = {number} * {turn};
    for (long i = 0; i < count; i++) out[at + i] = radius[i] * {cos}(angle[i]) * {std} + {mean};
    for (long i = 0; i < count2; i++) out[{half} + at + i] = radius[i] * {sin}(angle[i]) * {std} + {mean};
  }}
}}
"""
WORD64 = "((uint64_t)w[2 * i + 1] << 32 | w[2 * i])"


def unit(dtype: np.dtype, start: int) -> str:
    """Element i of the numbers from [0, 1), on a grid as fine as the type has it; from (0, 1] if `start` is 1."""
    bits, grid = ("(int32_t)(w[i] >> 8)", 24) if dtype.itemsize == 4 else (f"(int64_t)({WORD64} >> 11)", 53)
    shifted = f"(({c_type(dtype)}){bits} + 1)" if start else f"({c_type(dtype)}){bits}"
    return f"{shifted} * {literal(2.0**-grid, dtype)}"


def draw(n: Tensor, views: Views, template: str, words: int = 1, pair: float = 0.0, **parts: str) -> Statement | None:
    """The statement of a draw: a function, which is `template` with its parts filled in, called with the state.

    Args:
        words: how many words an element takes.
        pair: nanoseconds for two elements, besides their words.
    """
    state = views[n.inputs[0]]
    if state is None:
        return None
    half = -(-n.size // 2)
    shared = n.size * words * WORD + half * pair > WORTH
    count = min(threads(), -(-half // PIECE)) if shared else 1
    pragma = f"\n  #pragma omp parallel for num_threads({count}) schedule(static)" if count > 1 else ""
    text = template.format(
        name="NAME", T=c_type(n.dtype), n=n.size, half=half, piece=PIECE, words=words, pragma=pragma, **parts
    )
    name = f"mg_{n.op.name}_{zlib.crc32(text.encode()):08x}"  # equal draws share a function
    call = f"{name}({{in0}} + {state.offset}, {state.strides[0]}, {{out0}});"
    return Statement(call, {"mg_random_words": WORDS, name: text.replace("NAME", name)})


@writes("random_bits")
def random_bits(n: Tensor, views: Views) -> Statement | None:
    """The words themselves."""
    if n.dtype.itemsize < 4:
        return None
    number = "w[i]" if n.dtype.itemsize == 4 else WORD64
    return draw(n, views, EACH, words=n.dtype.itemsize // 4, number=f"({c_type(n.dtype)}){number}")


@writes("random_uniform")
def random_uniform(n: Tensor, views: Views) -> Statement | None:
    """Numbers from [0, 1), stretched and moved."""
    if n.dtype not in DTYPES:
        return None
    low, high = n.attrs.get("low", 0.0), n.attrs.get("high", 1.0)
    number = f"{unit(n.dtype, 0)} * {literal(high - low, n.dtype)} + {literal(low, n.dtype)}"
    return draw(n, views, EACH, words=n.dtype.itemsize // 4, number=number)


@writes("random_bernoulli")
def random_bernoulli(n: Tensor, views: Views) -> Statement | None:
    """Words below a threshold."""
    threshold = round(n.attrs["p"] * 2.0**32)
    if not 0 < threshold < 2**32:
        return Statement(f"memset({{to0}}, {int(threshold > 0)}, {n.size});", {})
    return draw(n, views, EACH, number=f"w[i] < {threshold}U")


@writes("random_integers")
def random_integers(n: Tensor, views: Views) -> Statement | None:
    """64 bits modulo the range, which the compiler knows, so that it need not divide."""
    low, high = n.attrs["low"], n.attrs["high"]
    number = f"({c_type(n.dtype)})({WORD64} % {high - low}ULL + {low % 2**64}ULL)"
    return draw(n, views, EACH, words=2, number=number)


@writes("random_normal")
def random_normal(n: Tensor, views: Views) -> Statement | None:
    """Two uniform numbers make two normal ones."""
    if n.dtype not in DTYPES:
        return None
    writer = Writer()  # knows the functions, and collects their texts
    names = {f: writer.function(f, n.dtype) for f in ("sqrt", "log", "cos", "sin")}
    mean, std = n.attrs.get("mean", 0.0), n.attrs.get("std", 1.0)
    drawn = draw(
        n, views, NORMAL, n.dtype.itemsize // 4, NORMAL_PAIR, number=unit(n.dtype, 1),
        turn=literal(2 * math.pi, n.dtype), mean=literal(mean, n.dtype), std=literal(std, n.dtype), **names,
    )  # fmt: skip
    return drawn and drawn._replace(functions=writer.functions | drawn.functions)


@writes("random_advance")
def random_advance(n: Tensor, views: Views) -> Statement | None:
    """The state with its counter moved."""
    state = views[n.inputs[0]]
    if state is None:
        return None
    key, counter = (f"({{in0}})[{state.offset + i * state.strides[0]}]" for i in range(2))
    return Statement(f"({{out0}})[0] = {key}, ({{out0}})[1] = {counter} + {n.attrs['steps']}ULL;", {})
