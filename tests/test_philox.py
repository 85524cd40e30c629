"""Counter-based random bits: against the published vectors, and against themselves by another way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigraph import backend
from minigraph.backend.philox import WORD, multiply, philox, random_bits, rounds
from minigraph.backend.strict import module as strict
from minigraph.errors import DeviceError

MODULES = [np, strict]
words = st.one_of(st.integers(0, WORD), st.sampled_from([0, 1, WORD, WORD - 1, 1 << 32, (1 << 32) - 1]))

# The known-answer vectors of the authors' library Random123 (kat_vectors, "philox4x64 10"): counter, key, block.
KNOWN = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
    ),
    (
        (WORD, WORD, WORD, WORD),
        (WORD, WORD),
        (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
    ),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


def to_numpy(array):
    return array if isinstance(array, np.ndarray) else array.get()


@pytest.mark.parametrize(("counter", "key", "block"), KNOWN)
@pytest.mark.parametrize("xp", MODULES, ids=lambda xp: xp.__name__)
def test_known_answers(xp, counter, key, block):
    got = rounds(tuple(xp.full((1,), np.uint64(word), dtype="uint64") for word in counter), key)
    assert tuple(int(word[0]) for word in got) == block


def test_known_answer_of_the_public_function():
    assert tuple(random_bits(np, 0, 0, 4).tolist()) == KNOWN[0][2]


@given(st.lists(words, min_size=1, max_size=5), words)
def test_products_of_128_bits(values, m):
    high, low = multiply(np.array(values, dtype="uint64"), m)
    assert [(int(h) << 64) | int(w) for h, w in zip(high, low, strict=True)] == [v * m for v in values]


@given(key=words, counter=words, n=st.integers(0, 40))
def test_every_module_gives_the_same_words(key, counter, n):
    fast = random_bits(np, key, counter, n)  # NumPy's C code
    assert fast.dtype == np.uint64 and fast.shape == (n,)
    np.testing.assert_array_equal(fast, philox(np, key, counter, n))  # array arithmetic, past the carry, too
    np.testing.assert_array_equal(fast, to_numpy(random_bits(strict, key, counter, n)))


@given(key=words, counter=words, blocks=st.integers(0, 5), m=st.integers(0, 10))
@pytest.mark.parametrize("xp", MODULES, ids=lambda xp: xp.__name__)
def test_a_part_of_the_stream_is_computed_by_itself(xp, key, counter, blocks, m):
    counter = min(counter, WORD - 5)
    whole = to_numpy(random_bits(xp, key, counter, 4 * blocks + m))
    first = to_numpy(random_bits(xp, key, counter, 4 * blocks))
    rest = to_numpy(random_bits(xp, key, counter + blocks, m))
    np.testing.assert_array_equal(whole, np.concatenate([first, rest]))


def test_keys_and_counters_give_different_words():
    blocks = [tuple(random_bits(np, key, counter, 4).tolist()) for key in range(20) for counter in range(20)]
    assert len(set(blocks)) == 400


@pytest.mark.cuda
def test_a_gpu_gives_the_same_words():
    pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        backend.device("cuda")
    except DeviceError as error:
        pytest.skip(error.what)
    got = random_bits(backend.backends["cuda"].xp, 123, WORD - 3, 4099)
    np.testing.assert_array_equal(to_numpy(got), random_bits(np, 123, WORD - 3, 4099))
