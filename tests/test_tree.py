"""Pytrees: what is taken apart is put back, structures are told apart, and the explanations name the right place."""

import dataclasses
from collections import OrderedDict, namedtuple
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph import tree
from minigraph.errors import ArgumentError


class Pair(NamedTuple):
    left: object
    right: object


@tree.register
@dataclasses.dataclass
class Point:
    x: object
    y: object


class Bag:
    def __init__(self, label, things):
        self.label, self.things = label, things

    def __eq__(self, other):
        return type(other) is Bag and (self.label, self.things) == (other.label, other.things)


tree.register(Bag, lambda bag: (bag.things, bag.label), lambda label, things: Bag(label, things))

keys = st.one_of(st.text(max_size=3), st.integers(-2, 2), st.tuples(st.integers(0, 1)))
leaves = st.integers() | st.text(max_size=2) | st.floats(allow_nan=False)
trees = st.recursive(
    leaves | st.none(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
        st.builds(Pair, inner, inner),
        st.builds(Point, inner, inner),
        st.builds(Bag, st.text(max_size=2), st.lists(inner, max_size=2)),
    ),
    max_leaves=12,
)


def reference_leaves(x):
    """The leaves by plain recursion, independent of the code under test."""
    if x is None:
        return []
    if isinstance(x, dict):
        return [leaf for v in x.values() for leaf in reference_leaves(v)]
    if isinstance(x, list | tuple):
        return [leaf for v in x for leaf in reference_leaves(v)]
    if isinstance(x, Point):
        return reference_leaves([x.x, x.y])
    if isinstance(x, Bag):
        return reference_leaves(x.things)
    return [x]


def same(a, b):
    """Equal, with equal types and key orders all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@given(trees)
def test_flatten_then_unflatten_gives_the_tree_back(t):
    flat, structure = tree.flatten(t)
    assert flat == reference_leaves(t)
    assert structure.size == len(flat)
    assert same(tree.unflatten(structure, flat), t)


@given(trees)
def test_a_structure_forgets_the_leaves_and_nothing_else(t):
    flat, structure = tree.flatten(t)
    again = tree.flatten(tree.unflatten(structure, [object() for _ in flat]))[1]
    assert again == structure and hash(again) == hash(structure) and repr(again) == repr(structure)
    assert tree.explain_difference(structure, again) == "the structures are equal"


@given(trees, trees)
def test_structures_differ_exactly_when_unflatten_would(a, b):
    (la, sa), (_, sb) = tree.flatten(a), tree.flatten(b)
    equal_nesting = sa.size == sb.size and same(tree.unflatten(sa, [0] * len(la)), tree.unflatten(sb, [0] * len(la)))
    assert (sa == sb) == equal_nesting
    assert (tree.explain_difference(sa, sb) == "the structures are equal") == equal_nesting


@given(trees)
def test_paths_are_python_that_finds_the_leaf(t):
    flat = tree.flatten(t)[0]
    for path, leaf in zip(tree.paths(t, "t"), flat, strict=True):
        if "Bag" not in repr(type_names(t)):
            assert eval(path, {"t": t}) == leaf


def type_names(x):
    """The class names of all containers (a Bag's children have no Python path)."""
    if isinstance(x, dict):
        return [type_names(v) for v in x.values()]
    if isinstance(x, list | tuple):
        return [type_names(v) for v in x]
    if isinstance(x, Point):
        return [type_names(x.x), type_names(x.y)]
    return type(x).__name__


@given(trees)
def test_map_over_one_and_several_trees(t):
    assert reference_leaves(tree.map(lambda x: (x,), t)) == reference_leaves(t)  # one-tuples, read by the reference
    assert tree.flatten(tree.map(lambda x, y: [x] if x is y else None, t, t))[0] == reference_leaves(t)


def test_paths_read_like_python():
    params = {"w1": [1, Pair(2, (3,))], 0: Point(4, None), "o'\"k": 5}
    assert tree.paths(params, "params") == [
        'params["w1"][0]', 'params["w1"][1].left', 'params["w1"][1].right[0]', "params[0].x", 'params["o\'\\"k"]',
    ]  # fmt: skip
    assert tree.paths(3, "x") == ["x"]
    assert tree.paths(Bag("b", [1, 2])) == ["tree[0]", "tree[1]"]


def test_repr_is_python_with_stars():
    _, structure = tree.flatten(
        {"w": [1, (2,)], "b": None, 3: Pair(1, ()), "p": Point(1, 2), "o": OrderedDict(a=1), "g": Bag("l", [1])}
    )
    assert repr(structure) == (
        'Structure({"w": [*, (*,)], "b": None, 3: Pair(left=*, right=()), "p": Point(x=*, y=*), '
        '"o": OrderedDict({"a": *}), "g": Bag(*)})'
    )


def test_subclasses_and_other_objects_are_leaves():
    class Row(list):
        pass

    for x in (Row([1]), {1, 2}, "text", range(3), b"ab", object()):
        assert tree.flatten(x)[0] == [x]


def test_tensors_and_variables_are_leaves():
    t, v = mg.tensor([1.0, 2.0]), mg.Variable(1.0)
    assert [id(x) for x in tree.flatten({"t": t, "v": [v]})[0]] == [id(t), id(v)]


def test_is_leaf_stops_the_descent():
    t = [(1, 2), (3, 4)]
    flat, structure = tree.flatten(t, is_leaf=lambda x: type(x) is tuple)
    assert flat == [(1, 2), (3, 4)]
    assert tree.unflatten(structure, flat) == t
    assert tree.flatten(t, is_leaf=lambda x: True)[0] == [t]


def test_none_is_an_empty_container():
    flat, structure = tree.flatten((None, 1, None))
    assert flat == [1] and tree.unflatten(structure, [2]) == (None, 2, None)
    assert tree.flatten((0, 1, None))[1] != structure


def test_depth_is_not_limited():
    deep = 1
    for _ in range(100_000):
        deep = [deep]
    flat, structure = tree.flatten(deep)
    other = tree.flatten(deep)[1]
    assert flat == [1] and hash(structure) == hash(other) and structure == other
    back = tree.unflatten(structure, flat)
    depth = 0
    while type(back) is list:
        back, depth = back[0], depth + 1
    assert depth == 100_000


def test_many_containers_are_no_cycle_even_when_shared():
    inner = [1]
    assert len(tree.flatten([inner] * 30_000)[0]) == 30_000
    Wrap = namedtuple("Wrap", "x")
    assert len(tree.flatten([Wrap([]) for _ in range(30_000)])[0]) == 0


def test_a_container_inside_itself_is_refused():
    cycle = [1]
    cycle.append({"again": (cycle,)})
    with pytest.raises(ArgumentError, match="contains itself"):
        tree.flatten(cycle)


def test_a_planted_wrong_order_is_seen_by_the_round_trip():
    """The property above can fail: a container that gives its children back reversed does not survive it."""

    class Crooked(list):
        pass

    tree.register(Crooked, lambda c: (list(c), None), lambda meta, children: Crooked(children[::-1]))
    flat, structure = tree.flatten(Crooked([1, 2]))
    assert tree.unflatten(structure, flat) != Crooked([1, 2])


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        (1, [1], "p is a leaf in the first, a list of 1 in the second"),
        ((1, 2), (1, 2, 3), "p is a tuple of 2 in the first, a tuple of 3 in the second"),
        ({"a": 1}, {"a": None}, 'p["a"] is a leaf in the first, None in the second'),
        ({"a": 1, "b": [2]}, {"a": 1, "b": [(2,)]}, 'p["b"][0] is a leaf in the first, a tuple of 1 in the second'),
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, 'p: the second dict lacks "b" and has "c" in addition'),
        (
            {"a": 1, "b": 2},
            {"b": 1, "a": 2},
            'p has the keys "a", "b" in the first, in the order "b", "a" in the second',
        ),
        ({"a": [1]}, {"a": {}}, 'p["a"] is a list of 1 in the first, an empty dict in the second'),
        (Bag("x", [1]), Bag("y", [1]), "p: the metadata of the Bag is 'x' in the first, 'y' in the second"),
    ],
)
def test_explain_difference_names_the_place(a, b, sentence):
    assert tree.explain_difference(tree.flatten(a)[1], tree.flatten(b)[1], "p") == sentence


def test_explain_difference_of_two_classes_of_one_name():
    a, b = namedtuple("Pair", "l r")(1, 2), namedtuple("Pair", "l r")(1, 2)
    assert "another class of that name" in tree.explain_difference(tree.flatten(a)[1], tree.flatten(b)[1])


def test_errors_say_what_to_do():
    _, structure = tree.flatten((1, 2))
    with pytest.raises(ArgumentError, match=r"2 leaves for Structure\(\(\*, \*\)\)(.|\n)*3 leaves"):
        tree.unflatten(structure, [1, 2, 3])
    with pytest.raises(
        ArgumentError, match=r"argument 2(.|\n)*tree is a tuple of 2 in the first, a leaf in the second"
    ):
        tree.map(lambda a, b: a, (1, 2), 3)
    with pytest.raises(ArgumentError, match="dict is a container already"):
        tree.register(dict, lambda d: ([], None), lambda m, c: {})
    with pytest.raises(ArgumentError, match="dataclass"):
        tree.register(type("Plain", (), {}))
    with pytest.raises(TypeError, match="a class"):
        tree.register(3, len, len)
