"""Modules: what is found under which name, what a call does, what is saved, and mistakes that teach."""

import copy
import pickle

import numpy as np
import pytest

import minigraph as mg
from minigraph import nn
from minigraph.errors import (
    ArgumentError,
    BoundsError,
    CheckpointError,
    DeviceError,
    DTypeError,
    MinigraphError,
    ShapeError,
)


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.first = nn.Linear(n, n)
        self.scale = nn.Parameter(np.ones(n, "float32"))
        self.register_buffer("count", 0)

    def forward(self, x):
        return self.first(x) * self.scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Linear(3, 4, bias=False)
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 1)})

    def forward(self, x, head="a"):
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return self.heads[head](x)


PATHS = [
    "embedding.weight",
    "blocks.0.scale", "blocks.0.count", "blocks.0.first.weight", "blocks.0.first.bias",
    "blocks.1.scale", "blocks.1.count", "blocks.1.first.weight", "blocks.1.first.bias",
    "heads.a.weight", "heads.a.bias", "heads.b.weight", "heads.b.bias",
]  # fmt: skip


# ---------------------------------------------------------------------------------------------------- what is found


def test_everything_has_its_path():
    net = Net()
    assert list(net.state_dict()) == PATHS
    assert [path for path, _ in net.named_parameters()] == [p for p in PATHS if not p.endswith("count")]
    assert [path for path, _ in net.named_buffers()] == ["blocks.0.count", "blocks.1.count"]
    assert [p.name for p in net.parameters()] == [p for p in PATHS if not p.endswith("count")]
    assert [path for path, _ in net.named_modules()] == [
        "", "embedding", "blocks", "blocks.0", "blocks.0.first", "blocks.1", "blocks.1.first",
        "heads", "heads.a", "heads.b",
    ]  # fmt: skip
    assert [name for name, _ in net.named_children()] == ["embedding", "blocks", "heads"]
    assert len(list(net.modules())) == 10 and len(list(net.children())) == 3 and len(list(net.buffers())) == 2


def test_tensors_read_from_parameters_carry_the_path_as_their_name():
    net = Net()
    assert net.blocks[1].first.weight.read().name == "blocks.1.first.weight"
    outer = nn.Sequential(net)
    assert net.blocks[1].first.weight.read().name == "0.blocks.1.first.weight"
    assert len(outer) == 1


def test_assignment_replaces_and_deletion_forgets():
    block = Block(2)
    block.scale = nn.Parameter([5.0, 5.0])
    assert block.state_dict()["scale"].tolist() == [5.0, 5.0]
    block.scale = 3.0  # a plain number is a parameter no longer
    assert "scale" not in block.state_dict() and block.scale == 3.0
    del block.first
    assert list(block.state_dict()) == ["count"]
    block.first = None
    assert block.first is None


def test_shared_parameters_are_trained_once_and_saved_under_each_path():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = nn.Linear(3, 3), nn.Linear(3, 3)
            self.decoder.weight = self.encoder.weight
            self.again = self.encoder

    net = Tied()
    assert [p for p, _ in net.named_parameters()] == ["encoder.weight", "encoder.bias", "decoder.bias"]
    assert list(net.state_dict()) == [
        "encoder.weight", "encoder.bias", "decoder.bias", "decoder.weight", "again.weight", "again.bias",
    ]  # fmt: skip
    assert net.encoder.weight.name == "encoder.weight"
    twin = copy.deepcopy(net)
    assert twin.decoder.weight is twin.encoder.weight and twin.again is twin.encoder
    twin.load_state_dict(net.state_dict())


def test_apply_visits_children_first():
    seen = []
    Net().apply(lambda m: seen.append(type(m).__name__))
    assert seen[-1] == "Net" and seen.index("Linear") < seen.index("Block")


def test_buffers_are_saved_but_not_trained():
    block = Block(2)
    assert not block.count.requires_grad and "count" in block.state_dict()
    with pytest.raises(DTypeError, match="not trained"):
        block.register_buffer("w", nn.Parameter([1.0]))


# -------------------------------------------------------------------------------------------------------------- calls


def test_nodes_know_the_path_of_their_module():
    net = Net()
    with mg.record() as g:
        net(mg.ones((2, 3)), head="b")
    scopes = [str(n.scope) for n in g.operations]
    assert scopes == [
        "Net.embedding", "Net.blocks.0.first", "Net.blocks.0", "Net.blocks.1.first", "Net.blocks.1", "Net.heads.b",
    ]  # fmt: skip
    kinds, scope = [], g.operations[1].scope
    while scope.name:
        kinds.append(scope.kind)
        scope = scope.parent
    assert kinds == ["Linear", "Block", "ModuleList", "Net"]


def test_lists_in_lists_keep_the_path():
    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.ModuleList([nn.ModuleList([nn.ReLU()]) for _ in range(2)])

        def forward(self, x):
            return self.rows[1][0](x)

    grid = Grid()
    with mg.record() as g:
        grid(mg.ones(2))
    assert str(g.operations[0].scope) == "Grid.rows.1.0"


def test_the_scope_is_restored_after_an_error():
    with pytest.raises(ShapeError):
        Net()(mg.ones((2, 99)))
    with mg.record() as g:
        mg.ones(2) + mg.ones(2)
    assert g.operations[0].scope is None


def test_hooks_see_and_may_replace_arguments_and_results():
    seen = []
    layer = nn.Linear(2, 2)
    before = layer.register_forward_pre_hook(lambda m, args: seen.append(("before", args)))
    twice = layer.register_forward_pre_hook(lambda m, args: args[0] * 2)
    after = layer.register_forward_hook(lambda m, args, y: seen.append(("after", args, y)))
    negative = layer.register_forward_hook(lambda m, args, y: -y)
    x = mg.tensor([1.0, 2.0])
    y = layer(x)
    assert seen[0] == ("before", (x,)) and seen[1][1][0].tolist() == [2.0, 4.0]
    np.testing.assert_array_equal(y.numpy(), -seen[1][2].numpy())
    for handle in (before, twice, after, negative, negative):
        handle.remove()
    layer(x)
    assert len(seen) == 2


def test_a_hook_that_is_a_context_manager_goes_away():
    layer = nn.Identity()
    with layer.register_forward_hook(lambda m, args, y: y * 0):
        assert layer(mg.tensor(1.0)).item() == 0.0
    assert layer(mg.tensor(1.0)).item() == 1.0


def test_a_hook_may_remove_itself():
    layer, handles = nn.Identity(), []
    handles.append(layer.register_forward_hook(lambda m, args, y: handles[0].remove()))
    layer(mg.tensor(1.0)), layer(mg.tensor(1.0))
    assert not layer._after


def test_hooks_and_new_parts_are_noticed_by_compiled_functions():
    net = Net()
    f = mg.compile(lambda x: net(x))
    x = mg.ones((2, 3))
    np.testing.assert_allclose(f(x).numpy(), net(x).numpy(), rtol=1e-6)
    with net.blocks[0].register_forward_hook(lambda m, args, y: y * 0):
        np.testing.assert_allclose(f(x).numpy(), net(x).numpy(), rtol=1e-6)
    np.testing.assert_allclose(f(x).numpy(), net(x).numpy(), rtol=1e-6)
    net.blocks[1] = Block(4)
    np.testing.assert_allclose(f(x).numpy(), net(x).numpy(), rtol=1e-6)
    net.heads["a"] = nn.Linear(4, 7)
    assert f(x).shape == (2, 7)
    net.embedding.weight = nn.Parameter(np.zeros((4, 3), "float32"))
    np.testing.assert_allclose(f(x).numpy(), net(x).numpy(), rtol=1e-6)


def test_train_and_eval_reach_everything():
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    net.blocks[0].train()
    assert net.blocks[0].first.training and not net.training and not net.blocks[1].training


# -------------------------------------------------------------------------------------------------------------- state


def values(module):
    return {path: t.numpy().copy() for path, t in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_a_state_round_trip():
    a, b = Net(), Net()
    assert not same(values(a), values(b))
    b.load_state_dict(a.state_dict())
    assert same(values(a), values(b))
    b.load_state_dict(values(Net()))  # arrays are fine
    assert not same(values(a), values(b))


def test_state_tensors_keep_their_values():
    net = Net()
    state, before = net.state_dict(), values(net)
    net.load_state_dict(Net().state_dict())
    assert all(np.array_equal(state[k].numpy(), before[k]) for k in state)


def change(state, **changes):
    return {**state, **changes}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "heads.a.bias"}, "missing: heads.a.bias"),
        (lambda s: {**s, "extra": s["heads.a.bias"]}, "unknown: extra"),
        (lambda s: {**s, "heads.a.bias": np.zeros(3)}, r"heads.a.bias: shape \(2,\) expected, \(3,\) given"),
        (lambda s: {**s, "heads.b.bias": np.array(["x"])}, "heads.b.bias: tensor: could not convert string to float"),
        (lambda s: {**s, "heads.b.bias": [[1.0], [1.0, 2.0]]}, "heads.b.bias: tensor: the nested list is ragged"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(broken, words):
    net, other = Net(), Net()
    before = values(net)
    with pytest.raises(CheckpointError, match=words):
        net.load_state_dict(broken(other.state_dict()))
    assert same(values(net), before)


def test_strict_is_optional_but_shapes_are_not():
    net, other = Net(), Net()
    state = {k: v for k, v in other.state_dict().items() if k.startswith("heads")} | {"unknown": np.zeros(1)}
    net.load_state_dict(state, strict=False)
    assert np.array_equal(net.heads["a"].weight.numpy(), other.heads["a"].weight.numpy())
    with pytest.raises(CheckpointError, match="shape"):
        net.load_state_dict({"heads.a.bias": np.zeros(3)}, strict=False)


def test_long_lists_of_problems_are_cut():
    with pytest.raises(CheckpointError, match="and 16 more"):
        Net().load_state_dict({f"layer{k}": np.zeros(1) for k in range(13)})


def test_loading_converts_the_dtype():
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": np.ones((1, 2)), "bias": [3]})
    assert layer.weight.dtype == mg.float32 and layer.bias.tolist() == [3.0]


def test_deep_copies_share_nothing():
    net = Net()
    net(mg.ones((2, 3))).sum().backward()
    twin = copy.deepcopy(net)
    assert same(values(net), values(twin))
    assert not {id(v) for _, v in net.named_variables()} & {id(v) for _, v in twin.named_variables()}
    assert not {id(m) for m in net.modules()} & {id(m) for m in twin.modules()}
    assert twin.embedding.weight.grad is None and net.embedding.weight.grad is not None
    before = values(net)
    for p in twin.parameters():
        p.assign(p * 0)
    assert same(values(net), before)
    assert [p.name for p in twin.parameters()] == [p.name for p in net.parameters()]
    twin(mg.ones((2, 3)))


def test_a_module_with_a_compiled_forward_can_be_copied():
    class Fast(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        @mg.compile
        def forward(self, x):
            return self.layer(x)

    net = Fast()
    x = mg.ones((1, 2))
    y = net(x)
    twin = copy.deepcopy(net)
    twin.layer.weight.assign(twin.layer.weight * 0)
    np.testing.assert_array_equal(net(x).numpy(), y.numpy())
    assert not np.array_equal(twin(x).numpy(), y.numpy())


def test_modules_are_not_pickled():
    with pytest.raises(DTypeError, match=r"mg\.save"):
        pickle.dumps(Net())


def test_moving_to_a_device_and_back():
    net = Net()
    before = values(net)
    net(mg.ones((2, 3))).sum().backward()
    assert net.to("strict") is net
    assert {str(v.device) for _, v in net.named_variables()} == {"strict"}
    assert str(net.embedding.weight.grad.device) == "strict"
    assert same(values(net), before)
    y = net(mg.ones((2, 3)).to("strict"))
    assert str(y.device) == "strict"
    with pytest.raises(DeviceError, match="different devices"):
        net(mg.ones((2, 3)))
    net.to("cpu")
    np.testing.assert_allclose(net(mg.ones((2, 3))).numpy(), y.numpy(), rtol=1e-6)
    assert str(net.embedding.weight.grad.device) == "cpu"


def test_a_device_that_does_not_exist_moves_nothing():
    net = Net()
    with pytest.raises(DeviceError):
        net.to("tpu")
    assert {str(v.device) for _, v in net.named_variables()} == {"cpu"}


def test_frozen_parameters_get_no_gradients():
    net = Net()
    assert net.embedding.requires_grad_(False) is net.embedding
    net(mg.ones((2, 3))).sum().backward()
    assert net.embedding.weight.grad is None and net.blocks[0].scale.grad is not None
    net.embedding.requires_grad_()
    net(mg.ones((2, 3))).sum().backward()
    assert net.embedding.weight.grad is not None
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_a_module_is_a_pytree_of_its_trained_variables():
    layer = nn.Linear(2, 1)
    x, y = mg.tensor([[1.0, 2.0]]), mg.tensor([[1.0]])
    gradient = mg.grad(lambda m: nn.functional.mse_loss(m(x), y))(layer)
    assert list(gradient) == ["weight", "bias"] and gradient["weight"].shape == (1, 2)


# ---------------------------------------------------------------------------------------------------------- containers


def test_sequential_is_a_list_and_a_chain():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    x = mg.ones((3, 4))
    np.testing.assert_array_equal(net(x).numpy(), net[2](net[1](net[0](x))).numpy())
    assert len(net) == 3 and [type(m).__name__ for m in net] == ["Linear", "ReLU", "Linear"]
    assert net[-1] is net[2] and net[1] in net and nn.ReLU() not in net
    half = net[:2]
    assert type(half) is nn.Sequential and len(half) == 2 and half[0] is net[0]
    np.testing.assert_array_equal(half(x).numpy(), net[1](net[0](x)).numpy())
    assert list(net[1:].state_dict()) == ["1.weight", "1.bias"]
    assert net[0].weight.name == "0.weight"  # a slice does not rename


def test_sequential_changes_like_a_list():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert net.append(nn.Linear(4, 2)) is net
    net.insert(1, nn.LayerNorm(4)).extend([nn.Tanh()])
    assert [type(m).__name__ for m in net] == ["Linear", "LayerNorm", "ReLU", "Linear", "Tanh"]
    net[2] = nn.GELU()
    del net[-1]
    assert [type(m).__name__ for m in net] == ["Linear", "LayerNorm", "GELU", "Linear"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]
    del net[:2]
    assert [name for name, _ in net.named_children()] == ["0", "1"]
    assert net(mg.ones((1, 4))).shape == (1, 2)


def test_sequential_with_names():
    net = nn.Sequential({"input": nn.Linear(4, 8), "act": nn.ReLU()})
    assert list(net.state_dict()) == ["input.weight", "input.bias"] and net.act is net[1]
    net.append(nn.Linear(8, 1))
    assert [name for name, _ in net.named_children()] == ["input", "act", "2"]
    assert nn.Sequential({"1": nn.ReLU()}).append(nn.Tanh()).state_dict() == {}


def test_an_empty_sequential_is_the_identity():
    x = mg.ones(2)
    assert nn.Sequential()(x) is x


def test_module_dict_is_a_dictionary():
    heads = nn.ModuleDict({"a": nn.Linear(2, 1)})
    heads["b"] = nn.ReLU()
    heads.update({"c": nn.Tanh()})
    assert (
        list(heads) == ["a", "b", "c"] == list(heads.keys()) and len(heads) == 3 and "b" in heads and "z" not in heads
    )
    assert [type(m).__name__ for m in heads.values()] == ["Linear", "ReLU", "Tanh"]
    assert dict(heads.items())["c"] is heads["c"] is heads.c
    del heads["b"]
    assert list(heads) == ["a", "c"]


@pytest.mark.parametrize(
    ("mistake", "error", "words"),
    [
        (lambda: nn.Sequential(nn.ReLU), DTypeError, r"element 0 is a class(.|\n)*nn.ReLU\(...\)"),
        (lambda: nn.Sequential(nn.Linear(1, 1), mg.relu), DTypeError, "element 1 is not a module"),
        (lambda: nn.Sequential([nn.ReLU(), nn.ReLU()]), DTypeError, r"nn.Sequential\(\*layers\)"),
        (lambda: nn.Sequential({"a.b": nn.ReLU()}), ArgumentError, "without dots"),
        (lambda: nn.Sequential({"": nn.ReLU()}), ArgumentError, "''"),
        (lambda: nn.Sequential({"forward": nn.ReLU()}), ArgumentError, "'forward'"),
        (lambda: nn.ModuleList(nn.ReLU()), DTypeError, r"nn.ModuleList\(\[module\]\)"),
        (lambda: nn.ModuleList([1]), DTypeError, "element 0 is not a module"),
        (lambda: nn.ModuleDict({"a": 1}), DTypeError, "'a' is not a module"),
        (lambda: nn.ModuleDict({})["x"], ArgumentError, "'x'"),
        (lambda: nn.Sequential(nn.ReLU())[1], BoundsError, "0 to 0"),
        (lambda: nn.Sequential()[0], BoundsError, "empty"),
        (lambda: nn.Sequential(nn.ReLU())["a"], DTypeError, "integer or a slice"),
        (lambda: nn.ModuleList([nn.ReLU()])(mg.ones(1)), NotImplementedError, "go over its members"),
        (lambda: nn.ModuleDict({})(mg.ones(1)), NotImplementedError, "call one of its members"),
        (lambda: nn.Module()(mg.ones(1)), NotImplementedError, "Module does not define forward"),
    ],
)
def test_containers_refuse_what_is_no_module(mistake, error, words):
    with pytest.raises(error, match=words):
        mistake()


# ----------------------------------------------------------------------------------------------------------- mistakes


def test_forgetting_super_init():
    class Forgetful(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(1, 1)

    class Empty(nn.Module):
        def __init__(self):
            pass

        def forward(self, x):
            return x

    with pytest.raises(ArgumentError, match=r"Forgetful: super\(\).__init__\(\) has not been called"):
        Forgetful()
    for use in (lambda m: m(1), lambda m: m.state_dict(), lambda m: list(m.parameters()), lambda m: m.train()):
        with pytest.raises(ArgumentError, match=r"Empty: super\(\)"):
            use(Empty())
    assert repr(Empty()) == "Empty()"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda: [nn.Linear(1, 1)], r"self.layers = nn.ModuleList\(...\)"),
        (lambda: (nn.Linear(1, 1), nn.ReLU()), "plain tuple"),
        (lambda: {"a": nn.Linear(1, 1)}, r"self.layers = nn.ModuleDict\(...\)"),
        (lambda: [nn.Parameter([1.0])], "setattr"),
        (lambda: mg.tensor([1.0], requires_grad=True), r"nn.Parameter\(tensor\)"),
    ],
)
def test_parts_that_would_not_be_found_are_refused(value, words):
    net = nn.Module()
    with pytest.raises(DTypeError, match=words):
        net.layers = value()


def test_plain_values_are_welcome():
    net = nn.Module()
    net.sizes, net.names, net.table = [1, 2], {"a": 1}, mg.tensor([1.0, 2.0])
    net.seen = mg.tensor([1.0], requires_grad=True) * 2  # a result, kept to look at
    assert not net.state_dict()


def test_wrong_arguments_name_the_module_and_what_it_takes():
    net = Net()
    net.forward = lambda x: net.embedding(x, x)
    with pytest.raises(TypeError, match=r"Net.embedding: Linear, whose forward takes \(x: 'Any'\)") as info:
        net(mg.ones((2, 3)))
    assert "takes 2 positional arguments but 3 were given" in str(info.value)


def test_an_error_inside_is_noted_once_with_the_innermost_module():
    class Inner(nn.Module):
        def forward(self, x):
            return x @ x

    with pytest.raises(ShapeError) as info:
        nn.Sequential({"a": nn.Sequential({"b": Inner()})})(mg.ones((2, 3)))
    assert info.value.__notes__ == ["  in        Sequential.a.b: Inner"]


def test_other_errors_are_left_alone():
    class Broken(nn.Module):
        def forward(self, x):
            return {}["key"]

    with pytest.raises(KeyError) as info:
        Broken()(1)
    assert not getattr(info.value, "__notes__", [])


def test_an_unknown_attribute_is_an_attribute_error():
    net = Net()
    with pytest.raises(AttributeError, match="embeding"):
        _ = net.embeding
    assert not hasattr(net, "nothing")


def test_a_module_cannot_contain_itself():
    net = Net()
    with pytest.raises(ArgumentError, match="contain itself"):
        net.blocks[0].parent = net
    with pytest.raises(ArgumentError, match="contain itself"):
        net.me = net


def test_errors_are_minigraphs():
    assert issubclass(CheckpointError, MinigraphError)


def test_the_repr_shows_the_tree():
    assert repr(nn.Sequential(nn.Linear(2, 3, bias=False), nn.Sequential(nn.ReLU()))).split("\n") == [
        "Sequential(",
        "  (0): Linear(in_features=2, out_features=3, bias=False)",
        "  (1): Sequential(",
        "    (0): ReLU()",
        "  )",
        ")",
    ]


def test_modules_in_threads_have_their_own_scope():
    import threading

    found = []

    class Slow(nn.Module):
        def forward(self, x):
            barrier.wait(10)
            with mg.record() as g:
                y = x + 1.0
            found.append(str(g.operations[0].scope))
            return y

    barrier = threading.Barrier(2)
    nets = [nn.Sequential({"a": Slow()}), nn.Sequential({"b": Slow()})]
    threads = [threading.Thread(target=n, args=(mg.ones(1),)) for n in nets]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(found) == ["Sequential.a", "Sequential.b"]
