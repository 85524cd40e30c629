"""Counter-based random numbers: Philox4x64-10.

Block k of a stream is a fixed function of (key, counter + k), so any part of the stream can be computed by itself, on
any device, in any order (J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
2011). NumPy has the same function in C, which is what the CPU uses; other array modules compute it in array arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
WORD, WORDS = (1 << 64) - 1, 4  # 64-bit words, four to a block


def random_bits(xp: Any, key: int, counter: int, n: int) -> Any:
    """`n` random 64-bit words of the stream `key`, beginning with block `counter` (four words to a block).

    Args:
        xp: an array module. key, counter: 0 to 2**64 - 1.

    Returns:
        uint64[n], the same on every module.

    >>> from minigraph.backend import random_bits
    >>> [hex(word) for word in random_bits(np, 0, 0, 2)]
    ['0x16554d9eca36314c', '0xdb20fe9d672d0fdc']
    """
    if xp is np:
        # NumPy adds one to the counter before each block
        generator = np.random.Philox(key=key & WORD, counter=((counter & WORD) - 1) & ((1 << 256) - 1))
        return generator.random_raw(n)
    return philox(xp, key, counter, n)


def philox(xp: Any, key: int, counter: int, n: int) -> Any:
    """The definition, in array arithmetic."""
    blocks = -(-n // WORDS)
    u64 = np.dtype("uint64")
    c0 = xp.arange(blocks, dtype=u64) + np.uint64(counter & WORD)
    c1 = (c0 < np.uint64(counter & WORD)).astype(u64)  # the carry
    zeros = xp.zeros(blocks, dtype=u64)
    return xp.stack(rounds((c0, c1, zeros, zeros), (key & WORD, 0)), axis=1).reshape(-1)[:n]


def rounds(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """The ten rounds: a block of four random words for each block counter.

    Args:
        counter: four uint64 arrays of one shape, the least significant word of the counters first.
        key: two words.
    """
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        high0, low0 = multiply(c0, MULTIPLIERS[0])
        high1, low1 = multiply(c2, MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
        k0, k1 = (k0 + WEYL[0]) & WORD, (k1 + WEYL[1]) & WORD
    return c0, c1, c2, c3


def multiply(a: Any, m: int) -> tuple[Any, Any]:
    """The high and low 64 bits of the 128-bit products a * m, from products of 32-bit halves."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    m_low, m_high = np.uint64(m & 0xFFFFFFFF), np.uint64(m >> 32)
    a_low, a_high = a & mask, a >> half
    low = a_low * m_low
    middle = a_high * m_low + (low >> half)
    cross = a_low * m_high + (middle & mask)
    return a_high * m_high + (middle >> half) + (cross >> half), a * np.uint64(m)
