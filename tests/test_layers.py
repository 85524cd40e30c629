"""Layers: the same numbers and gradients as PyTorch's, the same in both modes, and errors that name the layer."""

import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph import nn
from minigraph.errors import ArgumentError, BoundsError, DTypeError, ShapeError

rng = np.random.default_rng


def normal(*shape, seed=0):
    return rng(seed).standard_normal(shape)


def words(*shape, n, seed=0):
    return rng(seed).integers(0, n, shape)


# What is compared with PyTorch: name, constructor arguments, their keywords, input.
LAYERS = [
    ("Linear", (5, 3), {}, normal(4, 5)),
    ("Linear", (5, 3), {"bias": False}, normal(2, 4, 5)),
    ("Conv1d", (3, 4, 3), {"padding": 1}, normal(2, 3, 7)),
    ("Conv2d", (3, 4, 3), {}, normal(2, 3, 7, 6)),
    ("Conv2d", (4, 6, (3, 2)), {"stride": 2, "padding": (2, 1), "groups": 2, "bias": False}, normal(2, 4, 7, 6)),
    ("Conv2d", (2, 2, 3), {"dilation": 2, "padding": "same"}, normal(1, 2, 6, 6)),
    ("MaxPool2d", (2,), {}, normal(2, 3, 6, 7)),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1}, normal(2, 3, 6, 7)),
    ("AvgPool2d", (2,), {}, normal(2, 3, 6, 7)),
    ("AdaptiveAvgPool2d", (1,), {}, normal(2, 3, 5, 4)),
    ("AdaptiveAvgPool2d", ((3, 2),), {}, normal(2, 3, 6, 4)),
    ("Flatten", (), {}, normal(2, 3, 4)),
    ("Flatten", (0, 1), {}, normal(2, 3, 4)),
    ("BatchNorm1d", (4,), {}, normal(6, 4)),
    ("BatchNorm1d", (4,), {"momentum": None}, normal(6, 4, 3)),
    ("BatchNorm1d", (4,), {"affine": False, "eps": 1e-2}, normal(6, 4)),
    ("BatchNorm2d", (3,), {"momentum": 0.3}, normal(4, 3, 2, 2)),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, normal(4, 3, 2, 2)),
    ("LayerNorm", (5,), {}, normal(4, 5)),
    ("LayerNorm", ((3, 5),), {"bias": False}, normal(4, 3, 5)),
    ("LayerNorm", (5,), {"elementwise_affine": False}, normal(2, 4, 5)),
    ("GroupNorm", (2, 4), {}, normal(3, 4, 5)),
    ("GroupNorm", (1, 4), {"affine": False}, normal(3, 4)),
    ("Embedding", (7, 3), {}, words(4, 5, n=7)),
    ("Embedding", (7, 3), {"padding_idx": -2}, words(4, 5, n=7)),
    ("Identity", (), {}, normal(3)),
    ("ReLU", (), {}, normal(3, 4)),
    ("LeakyReLU", (0.2,), {}, normal(3, 4)),
    ("ELU", (1.5,), {}, normal(3, 4)),
    ("GELU", (), {}, normal(3, 4)),
    ("GELU", (), {"approximate": "tanh"}, normal(3, 4)),
    ("SiLU", (), {}, normal(3, 4)),
    ("Sigmoid", (), {}, normal(3, 4)),
    ("Tanh", (), {}, normal(3, 4)),
    ("Softplus", (), {}, normal(3, 4)),
    ("Softmax", (-1,), {}, normal(3, 4)),
    ("LogSoftmax", (1,), {}, normal(3, 4, 2)),
]
NAMES = [f"{name}{k}" for k, (name, *_) in enumerate(LAYERS)]
HAS_DTYPE = {"Linear", "Conv1d", "Conv2d", "BatchNorm1d", "BatchNorm2d", "LayerNorm", "GroupNorm", "Embedding"}


def make(name, args, options):
    precise = {"dtype": mg.float64} if name in HAS_DTYPE else {}
    return getattr(nn, name)(*args, **options, **precise)


@pytest.mark.parametrize(("name", "args", "options", "x"), LAYERS, ids=NAMES)
def test_values_gradients_and_state_are_pytorchs(name, args, options, x):
    torch = pytest.importorskip("torch")
    ours, theirs = make(name, args, options), getattr(torch.nn, name)(*args, **options).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict({k: torch.tensor(v.numpy().copy()) for k, v in ours.state_dict().items()})
    for training in (True, True, False):  # twice in training: running statistics move on
        ours.train(training), theirs.train(training)
        tx = torch.tensor(x, requires_grad=x.dtype.kind == "f")
        mx = mg.tensor(x, requires_grad=x.dtype.kind == "f")
        y, ty = ours(mx), theirs(tx)
        np.testing.assert_allclose(y.numpy(), ty.detach().numpy(), rtol=1e-10, atol=1e-12)
        seed = normal(*y.shape, seed=1)
        if ty.requires_grad:
            ours.zero_grad(), theirs.zero_grad()
            y.backward(mg.tensor(seed)), ty.backward(torch.tensor(seed))
            if x.dtype.kind == "f":
                np.testing.assert_allclose(mx.grad.numpy(), tx.grad.numpy(), rtol=1e-8, atol=1e-10)
        for (path, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-8, atol=1e-10, err_msg=path)
        for (path, b), c in zip(ours.named_buffers(), theirs.buffers(), strict=True):
            np.testing.assert_allclose(b.numpy(), c.numpy(), rtol=1e-12, err_msg=path)


@pytest.mark.parametrize(("name", "args", "options", "x"), LAYERS, ids=NAMES)
def test_compiled_layers_compute_the_same(name, args, options, x):
    dynamic = make(name, args, options)
    static = copy.deepcopy(dynamic)
    compiled = mg.compile(lambda x: static(x))
    for training in (True, True, False):
        dynamic.train(training), static.train(training)
        np.testing.assert_allclose(
            compiled(mg.tensor(x)).numpy(), dynamic(mg.tensor(x)).numpy(), rtol=1e-12, atol=1e-14
        )
        for (path, a), b in zip(dynamic.state_dict().items(), static.state_dict().values(), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, err_msg=path)


@pytest.mark.parametrize(("name", "args", "options", "x"), LAYERS, ids=NAMES)
def test_layers_run_on_a_device_that_refuses_numpy(name, args, options, x):
    layer = make(name, args, options)
    expected = [layer(mg.tensor(x)), layer.eval()(mg.tensor(x))]
    fresh = copy.deepcopy(layer)
    if name.startswith("BatchNorm") and options.get("track_running_stats", True):
        fresh.load_state_dict(make(name, args, options).state_dict())
    fresh.train().to("strict")
    there = mg.tensor(x).to("strict")
    found = [fresh(there), fresh.eval()(there)]
    for a, b in zip(expected, found, strict=True):
        assert str(b.device) == "strict"
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("name", "args", "options", "x"), LAYERS, ids=NAMES)
def test_the_result_has_the_dtype_of_the_input(name, args, options, x):
    layer = getattr(nn, name)(*args, **options)
    y = layer(mg.tensor(x.astype("float32") if x.dtype.kind == "f" else x))
    assert y.dtype == mg.float32


@pytest.mark.parametrize(("name", "args", "options", "x"), LAYERS, ids=NAMES)
def test_the_repr_can_be_read_back(name, args, options, x):
    layer = getattr(nn, name)(*args, **options)
    assert repr(layer).startswith(name + "(")
    again = eval(repr(layer), {name: getattr(nn, name)})
    assert repr(again) == repr(layer)


# ------------------------------------------------------------------------------------------------------ first weights


def test_linear_and_conv_start_as_in_pytorch():
    mg.random.seed(0)
    for layer, fan_in in ((nn.Linear(400, 300), 400), (nn.Conv2d(16, 64, 5), 400)):
        bound = 1 / math.sqrt(fan_in)
        for p in (layer.weight, layer.bias):
            a = p.numpy()
            assert np.abs(a).max() <= bound and np.abs(a).max() > 0.95 * bound
            assert abs(a.mean()) < 0.15 * bound
        assert abs(layer.weight.numpy().std() - bound / math.sqrt(3)) < 0.01 * bound


def test_first_weights_follow_the_seed_and_the_generator():
    mg.random.seed(5)
    a = nn.Linear(3, 4)
    mg.random.seed(5)
    b = nn.Linear(3, 4)
    c, d = (nn.Linear(3, 4, generator=mg.random.Generator(5)) for _ in range(2))
    np.testing.assert_array_equal(a.weight.numpy(), b.weight.numpy())
    np.testing.assert_array_equal(c.weight.numpy(), d.weight.numpy())
    assert not np.array_equal(a.weight.numpy(), nn.Linear(3, 4).weight.numpy())


INITIALISERS = [
    (nn.init.xavier_uniform_, {}, lambda i, o: math.sqrt(2 / (i + o))),
    (nn.init.xavier_normal_, {"gain": 2.0}, lambda i, o: 2 * math.sqrt(2 / (i + o))),
    (nn.init.kaiming_uniform_, {"nonlinearity": "relu"}, lambda i, o: math.sqrt(2 / i)),
    (nn.init.kaiming_normal_, {"mode": "fan_out"}, lambda i, o: math.sqrt(2 / o)),
    (nn.init.normal_, {"std": 0.3}, lambda i, o: 0.3),
    (nn.init.uniform_, {"a": -1.0, "b": 1.0}, lambda i, o: 1 / math.sqrt(3)),
]


@pytest.mark.parametrize(("initialise", "options", "spread"), INITIALISERS, ids=lambda f: getattr(f, "__name__", ""))
def test_the_spread_of_initialisers(initialise, options, spread):
    w = nn.Parameter(np.zeros((200, 30, 3, 3), "float32"))
    assert initialise(w, **options, generator=mg.random.Generator(1)) is w
    assert w.numpy().std() == pytest.approx(spread(30 * 9, 200 * 9), rel=0.02)
    assert abs(w.numpy().mean()) < 0.02 * w.numpy().std() * 3


def test_orthogonal_and_truncated():
    for shape in ((3, 8), (8, 3), (4, 2, 2)):
        w = nn.init.orthogonal_(nn.Parameter(np.zeros(shape)), gain=2.0).numpy().reshape(shape[0], -1)
        small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)
    w = nn.init.trunc_normal_(nn.Parameter(np.zeros((50, 50))), mean=1.0, std=1.0, a=0.0, b=2.0).numpy()
    assert w.min() >= 0 and w.max() <= 2 and 0.5 < w.std() < 0.56  # 0.5396: a normal cut at one sigma


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: nn.init.xavier_uniform_(nn.Parameter([1.0])),
        lambda: nn.init.kaiming_normal_(nn.Parameter([[1.0]]), mode="fan_sideways"),
        lambda: nn.init.kaiming_normal_(nn.Parameter([[1.0]]), nonlinearity="step"),
        lambda: nn.init.trunc_normal_(nn.Parameter([1.0]), a=2.0, b=1.0),
        lambda: nn.init.trunc_normal_(nn.Parameter([1.0]), a=50.0, b=60.0),
        lambda: nn.init.normal_(nn.Parameter([1.0]), std=-1.0),
        lambda: nn.init.uniform_(nn.Parameter([1.0]), 2.0, 1.0),
        lambda: nn.init.eye_(nn.Parameter([1.0])),
    ],
)
def test_initialisers_refuse_nonsense(mistake):
    with pytest.raises((ArgumentError, ShapeError)):
        mistake()


# ----------------------------------------------------------------------------------------------------------- dropout


def test_dropout_scales_what_it_keeps():
    layer, x = nn.Dropout(0.25, generator=mg.random.Generator(3)), mg.ones((100, 100))
    y = layer(x).numpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert y.mean() == pytest.approx(1.0, abs=0.02)
    assert not np.array_equal(y, layer(x).numpy())
    assert layer.eval()(x) is x


def test_the_gradient_of_dropout_is_its_mask():
    x = mg.tensor(np.full(1000, 3.0), requires_grad=True)
    y = nn.Dropout(0.5, generator=mg.random.Generator(0))(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy() * 3, y.numpy())


def test_compiled_dropout_draws_fresh_masks_the_same_as_dynamic():
    def draws(compiled):
        layer = nn.Dropout(0.5, generator=mg.random.Generator(7))
        f = mg.compile(lambda x: layer(x)) if compiled else layer
        return [f(mg.ones(64)).numpy() for _ in range(3)]

    static, dynamic = draws(True), draws(False)
    assert not np.array_equal(static[0], static[1])
    for a, b in zip(static, dynamic, strict=True):
        np.testing.assert_array_equal(a, b)


def test_switching_to_evaluation_is_noticed_by_a_compiled_function():
    net = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    f = mg.compile(lambda x: net(x))
    x = mg.random.normal((8, 4))
    assert not np.array_equal(f(x).numpy(), f(x).numpy())
    net.eval()
    np.testing.assert_allclose(f(x).numpy(), net(x).numpy(), rtol=1e-6)
    np.testing.assert_array_equal(f(x).numpy(), f(x).numpy())
    assert "training changed from True to False" in f.traces[-1]
    net.train()
    assert not np.array_equal(f(x).numpy(), f(x).numpy())
    assert len(f.traces) == 2  # the first version is used again


def test_dropout_at_the_ends():
    x = mg.tensor([1.0, 2.0])
    assert nn.Dropout(0.0)(x) is x
    assert nn.Dropout(1.0)(x).tolist() == [0.0, 0.0]


# ----------------------------------------------------------------------------------------------------- batch-norm


@given(st.integers(2, 9), st.integers(1, 4), st.floats(0.0, 1.0))
def test_batch_norm_statistics_by_their_formula(n, c, momentum):
    x = rng(n).standard_normal((n, c, 2)) * 3 + 1
    norm = nn.BatchNorm1d(c, momentum=momentum, dtype=mg.float64)
    y = norm(mg.tensor(x)).numpy()
    mean, var = x.mean((0, 2)), x.var((0, 2))
    np.testing.assert_allclose(y, (x - mean[:, None]) / np.sqrt(var + 1e-5)[:, None], atol=1e-10)
    np.testing.assert_allclose(norm.running_mean.numpy(), momentum * mean, atol=1e-12)
    np.testing.assert_allclose(
        norm.running_var.numpy(), 1 - momentum + momentum * x.var((0, 2), ddof=1), rtol=1e-10, atol=1e-12
    )
    assert norm.num_batches_tracked.item() == 1


def test_batch_norm_holds_no_graph_in_its_statistics():
    norm = nn.BatchNorm1d(2)
    norm(mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)).sum().backward()
    assert not norm.running_mean.read().requires_grad


def test_a_compiled_function_advances_the_running_statistics():
    norm, x = nn.BatchNorm1d(2), mg.random.normal((16, 2))
    twin = copy.deepcopy(norm)
    f = mg.compile(lambda x: norm(x))
    for _ in range(5):
        f(x), twin(x)
    assert norm.num_batches_tracked.item() == 5
    np.testing.assert_allclose(norm.running_var.numpy(), twin.running_var.numpy(), rtol=1e-6)


# -------------------------------------------------------------------------------------------------------- bad input

net = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))


class Model(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.body = nn.ModuleList([nn.Identity(), layer])

    def forward(self, x):
        for layer in self.body:
            x = layer(x)
        return x


REFUSED = [
    (nn.Linear(64, 8), mg.ones((4, 63)), ShapeError, r"x: \(..., 64\)(.|\n)*float32\[4, 63\]"),
    (nn.Linear(64, 8), mg.ones(()), ShapeError, r"x: \(..., 64\)"),
    (nn.Linear(64, 8), mg.ones((4, 64)).astype("int64"), DTypeError, r"floating point(.|\n)*int64(.|\n)*astype"),
    (nn.Conv2d(3, 8, 3), mg.ones((2, 1, 9, 9)), ShapeError, r"x: \(N, 3, H, W\)(.|\n)*\[2, 1, 9, 9\]"),
    (nn.Conv2d(3, 8, 3), mg.ones((2, 9, 9, 3)), ShapeError, r"moveaxis"),
    (nn.Conv2d(3, 8, 3), mg.ones((3, 9, 9)), ShapeError, r"x\[None\]"),
    (nn.Conv2d(3, 8, 3), mg.ones((2, 3, 9, 9)).astype("int32"), DTypeError, r"floating point"),
    (nn.Conv1d(3, 8, 3), mg.ones((2, 3, 9, 9)), ShapeError, r"x: \(N, 3, L\)"),
    (nn.MaxPool2d(2), mg.ones((3, 9, 9)), ShapeError, r"x\[None\]"),
    (nn.AvgPool2d(2), mg.ones((9, 9)), ShapeError, r"N, C, H, W"),
    (nn.BatchNorm1d(4), mg.ones((1, 4)), ShapeError, r"more than one value per channel(.|\n)*model.eval\(\)"),
    (nn.BatchNorm1d(4), mg.ones((0, 4)), ShapeError, r"more than one value"),
    (nn.BatchNorm1d(4), mg.ones((2, 3)), ShapeError, r"\(N, 4\)"),
    (nn.BatchNorm2d(4), mg.ones((2, 4)), ShapeError, r"\(N, 4, H, W\)"),
    (nn.BatchNorm2d(4), mg.ones((2, 4, 2, 2)).astype("int64"), DTypeError, r"floating point"),
    (nn.LayerNorm((2, 3)), mg.ones((2, 4)), ShapeError, r"\(..., 2, 3\)"),
    (nn.LayerNorm(3), mg.ones((2, 3)).astype("int64"), DTypeError, r"floating point"),
    (nn.GroupNorm(2, 4), mg.ones((2, 3)), ShapeError, r"\(N, 4, ...\)"),
    (nn.Embedding(5, 2), mg.ones(3), DTypeError, r"integer(.|\n)*float32"),
    (nn.Embedding(5, 2), mg.tensor([0, 5, 7]), BoundsError, r"0 to 4(.|\n)*5 at position 1 \(2 are wrong\)"),
    (nn.Embedding(5, 2), mg.tensor([[0], [-1]]), BoundsError, r"-1 at position \(1, 0\)"),
    (nn.Dropout(0.5), mg.tensor([1, 2]), DTypeError, r"floating point"),
    (nn.ReLU(), mg.tensor([1, 2]), DTypeError, r"floating point"),
]


@pytest.mark.parametrize("mode", ["dynamic", "compiled"])
@pytest.mark.parametrize(("layer", "x", "error", "words"), REFUSED, ids=lambda v: type(v).__name__)
def test_wrong_input_is_refused_with_the_name_of_the_layer(layer, x, error, words, mode):
    model = Model(layer)
    with pytest.raises(error, match=words) as info:
        (mg.compile(lambda x: model(x)) if mode == "compiled" else model)(x)
    text = str(info.value) + "".join(getattr(info.value, "__notes__", ()))
    assert "test_layers.py" in text  # the user's line
    if mode == "dynamic" or error is not BoundsError:  # a wrong index is found when the code runs: no module is called
        assert "Model.body.1: " + type(layer).__name__ in text


def test_the_message_begins_with_the_path_and_the_layer():
    with pytest.raises(ShapeError) as info:
        net(mg.ones((3, 8)))
    assert str(info.value).startswith("Sequential.0: Linear(in_features=64, out_features=8, bias=True): the input has")
    with pytest.raises(ShapeError) as info:
        nn.Sequential({"encoder": net})(mg.ones((3, 8)))
    assert str(info.value).startswith("Sequential.encoder.0: Linear(in_features=64,")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: nn.Linear(0.5, 3), DTypeError),
        (lambda: nn.Linear(3, -1), ArgumentError),
        (lambda: nn.Linear(3, True), ArgumentError),
        (lambda: nn.Conv2d(3, 4, 0), ArgumentError),
        (lambda: nn.Conv2d(3, 4, (1, 2, 3)), ArgumentError),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ArgumentError),
        (lambda: nn.BatchNorm1d(0), ArgumentError),
        (lambda: nn.BatchNorm1d(3, momentum=1.5), ArgumentError),
        (lambda: nn.BatchNorm1d(3, eps=0.0), ArgumentError),
        (lambda: nn.LayerNorm(()), ArgumentError),
        (lambda: nn.GroupNorm(3, 4), ArgumentError),
        (lambda: nn.Embedding(3, 2, padding_idx=3), ArgumentError),
        (lambda: nn.Dropout(1.5), ArgumentError),
        (lambda: nn.Dropout(math.nan), ArgumentError),
        (lambda: nn.GELU("exactly"), ArgumentError),
        (lambda: nn.Linear(3, 2, device="cuda:99"), RuntimeError),
        (lambda: nn.Linear(3, 2, dtype="complex64"), DTypeError),
    ],
)
def test_layers_refuse_sizes_that_make_no_sense(make, error):
    with pytest.raises(error):
        make()


def test_empty_batches_flow_through_where_they_mean_something():
    for layer, x in (
        (net, (0, 64)),
        (nn.Conv2d(1, 2, 3), (0, 1, 5, 5)),
        (nn.LayerNorm(4), (0, 4)),
        (nn.MaxPool2d(2), (0, 1, 4, 4)),
    ):
        y = layer(mg.zeros(x))
        assert y.shape[0] == 0
        y.sum().backward() if y.requires_grad else None
