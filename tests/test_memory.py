"""Places in the arena: results that are alive together never share memory, and little of it is left unused."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph.compiler import memory

results = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8), st.sampled_from([0, 1, 64, 100, 256, 1000, 5000])))


def overlaps(lives, offsets, arena):
    """The pairs of results that share memory while both are alive, and the results that stand out of the arena."""
    found = [i for i, (_, _, size) in enumerate(lives) if offsets[i] < 0 or offsets[i] + size > arena]
    for i, (s, e, a) in enumerate(lives):
        for j, (t, f, b) in enumerate(lives[:i]):
            together = a and b and s <= f and t <= e
            if together and offsets[i] < offsets[j] + b and offsets[j] < offsets[i] + a:
                found.append((j, i))
    return found


@given(results)
def test_results_that_are_alive_together_do_not_overlap(found):
    lives = [(start, start + steps, size) for start, steps, size in found]
    offsets, arena = memory.place(lives)
    assert overlaps(lives, offsets, arena) == []
    aligned = [(start, end, -(-size // 64) * 64) for start, end, size in lives]
    assert arena >= memory.most_alive(aligned)
    assert overlaps(lives, *memory.best_fit(aligned)) == []


def test_the_test_sees_an_overlap():
    assert overlaps([(0, 1, 64), (1, 2, 64)], [0, 0], 64) == [(0, 1)]
    assert overlaps([(0, 0, 64), (1, 2, 64)], [0, 64], 64) == [1]


def test_pairs_and_bytes_alive_together():
    r = random.Random(0)
    lives = [(s := r.randrange(40), s + r.randrange(10), r.randrange(500)) for _ in range(80)]
    together = [(a, b) for i, a in enumerate(lives) for b in lives[:i] if a[0] <= b[1] and b[0] <= a[1]]
    assert memory.pairs(lives) == len(together)
    assert memory.most_alive(lives) == max(sum(z for s, e, z in lives if s <= t <= e) for t in range(60))
    assert memory.most_alive([]) == memory.pairs([]) == 0


@pytest.mark.parametrize("count", [500, 5000])
def test_nested_lives_fill_the_arena(count):
    """A training step's results: made one after another, used up in the opposite order. Few are compared with each
    other pair by pair, many are not."""
    lives = [(i, 2 * count - i, 64 * (1 + i % 5)) for i in range(count)]
    assert memory.place(lives)[1] == memory.most_alive(lives)


def test_short_lives_in_a_long_program():
    """Looked up by part of the time; across the borders of parts, too."""
    r = random.Random(1)
    lives = [(i, i + r.randrange(1, 20), r.choice([64, 256, 1024])) for i in range(2000)]
    offsets, arena = memory.place(lives)
    assert overlaps(lives, offsets, arena) == []
    assert arena <= 1.1 * memory.most_alive(lives)


@mg.op
def as_it_came(xp, x):
    return x


def no_round(x):
    return mg.while_loop(lambda s: s[0] < 0, lambda s: (s[0] + 1, s[1] * 2), (mg.tensor(0), x))[1]


UNTOUCHED = {
    "a loop without a round": lambda x: no_round(x),
    "a branch that changes nothing": lambda x: mg.cond(mg.sum(x) < 1e9, lambda t: t, lambda t: t * 2.0, x),
    "a user's operation": lambda x: as_it_came(x),
    "both": lambda x: as_it_came(mg.cond(mg.sum(x) < 1e9, lambda t: t, lambda t: t * 2.0, x)[1:]),
}  # fmt: skip


@pytest.mark.parametrize("how", UNTOUCHED)
@pytest.mark.parametrize("passes", [(), None])
def test_a_result_that_is_an_operand_keeps_its_memory(how, passes, each_backend):
    """What an operation returns untouched lies where its operand lies, and nothing else may be written there."""

    def f(x):
        y = UNTOUCHED[how](mg.tanh(x))
        for k in range(4):  # results of the same size, which would like the place
            x = mg.sin(x + 0.5 + k)
        return mg.sum(x), y * 1.0, y

    x = mg.tensor(np.linspace(-1, 1, 64, dtype="f4"))
    for want, got in zip(f(x), mg.compile(f, passes=passes)(x), strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-5, atol=1e-6)
