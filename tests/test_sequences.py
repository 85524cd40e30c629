"""Layers for sequences, recurrent and with attention: PyTorch's numbers and gradients, the same in both modes."""

import numpy as np
import pytest

import minigraph as mg
from minigraph import nn, optim
from minigraph.errors import ArgumentError, DTypeError, ShapeError
from minigraph.nn import functional as F  # noqa: N812 - its usual name

F64 = {"dtype": mg.float64}
T, N, I, H = 5, 3, 4, 6  # noqa: E741
BACKENDS = ["dynamic", "numpy", "c"]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def twins(name, *args, **options):
    """A layer here and in PyTorch, with the same weights, in float64."""
    torch = pytest.importorskip("torch")
    theirs = getattr(torch.nn, name)(*args, **options, dtype=torch.float64)
    ours = getattr(nn, name)(*args, **options, **F64)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy().copy() for k, v in theirs.state_dict().items()})
    return ours, theirs


def leaves(tree):
    return [t for t in mg.tree.flatten(tree)[0] if t is not None]


def compare(ours, theirs, inputs, call=lambda layer, *x: layer(*x), backend="dynamic"):
    """Results, and the gradients of a weighted sum of them with respect to inputs and parameters."""
    import torch

    x = [mg.tensor(a) for a in inputs]
    tx = [torch.tensor(a, requires_grad=True) for a in inputs]
    expected = [t for t in leaves(call(theirs, *tx)) if t.requires_grad]
    theirs.zero_grad()
    weights = [normal(*t.shape, seed=9 + k) for k, t in enumerate(expected)]
    sum((t * torch.tensor(w)).sum() for t, w in zip(expected, weights, strict=True)).backward()

    def run(*x):
        def loss(*x):
            y = leaves(call(ours, *x))[: len(weights)]
            return sum(((t * mg.tensor(w)).sum() for t, w in zip(y, weights, strict=True)), mg.tensor(0.0)), y

        ours.zero_grad()
        x = [mg.tensor(t, requires_grad=True) if backend == "dynamic" else t for t in x]
        gradients, y = mg.grad(loss, argnums=tuple(range(len(x))), has_aux=True)(*x)
        loss(*x)[0].backward()
        return y, gradients

    y, gradients = (run if backend == "dynamic" else mg.compile(run, backend=backend))(*x)
    for a, b in zip(y, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)
    for a, b in zip(leaves(gradients), tx, strict=True):
        np.testing.assert_allclose(a.numpy(), b.grad.numpy(), rtol=1e-8, atol=1e-11)
    for (path, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-8, atol=1e-11, err_msg=path)


# ---------------------------------------------------------------------------------------------------------- recurrent

BOTH_WAYS = {"num_layers": 2, "bidirectional": True, "batch_first": True}
OPTIONS = [{}, {"num_layers": 2}, {"bidirectional": True}, BOTH_WAYS, {"bias": False}]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_layers_are_pytorchs(name, options, backend):
    ours, theirs = twins(name, I, H, **options)
    compare(ours, theirs, [normal(*(N, T) if options.get("batch_first") else (T, N), I)], backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_relu_and_states_at_the_start(backend):
    ours, theirs = twins("RNN", I, H, nonlinearity="relu")
    compare(ours, theirs, [normal(T, N, I), normal(1, N, H, seed=1)], backend=backend)
    ours, theirs = twins("LSTM", I, H, num_layers=2)
    states = [normal(2, N, H, seed=k) for k in (1, 2)]
    compare(ours, theirs, [normal(T, N, I), *states], lambda layer, x, h, c: layer(x, (h, c)), backend)
    compare(ours, theirs, [normal(T, I)], backend=backend)  # one sequence without a batch


@pytest.mark.parametrize("name", ["RNNCell", "GRUCell", "LSTMCell"])
def test_cells_are_pytorchs(name):
    ours, theirs = twins(name, I, H)
    compare(ours, theirs, [normal(N, I)])
    compare(ours, theirs, [normal(I)])
    h, c = normal(N, H, seed=1), normal(N, H, seed=2)
    if name == "LSTMCell":
        compare(ours, theirs, [normal(N, I), h, c], lambda layer, x, h, c: layer(x, (h, c)))
    else:
        compare(ours, theirs, [normal(N, I), h])


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_a_layer_is_its_cell_step_by_step(name):
    layer, cell = getattr(nn, name)(I, H, **F64), getattr(nn, f"{name}Cell")(I, H, **F64)
    cell.load_state_dict({k: layer.state_dict()[f"{k}_l0"] for k in cell.state_dict()})
    x, state, found = mg.tensor(normal(T, N, I)), None, []
    for t in range(T):
        state = cell(x[t], state)
        found.append((state[0] if name == "LSTM" else state).numpy())
    np.testing.assert_allclose(layer(x)[0].numpy(), np.stack(found), rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_lengths_are_as_packed_sequences(name, backend):
    torch = pytest.importorskip("torch")
    ours, theirs = twins(name, I, H, num_layers=2, bidirectional=True, batch_first=True)
    lengths = np.array([5, 1, 3])
    pack, pad = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence

    def call(layer, x):
        if layer is ours:
            return layer(x, lengths=mg.tensor(lengths))
        y, state = layer(pack(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False))
        return pad(y, batch_first=True)[0], state

    compare(ours, theirs, [normal(3, 5, I)], call, backend)


def test_what_is_behind_the_end_does_not_matter():
    layer = nn.GRU(I, H, bidirectional=True)
    x = normal(T, 2, I).astype("float32")
    other = x.copy()
    other[3:, 1] = 1e6
    a, b = (layer(mg.tensor(v), lengths=mg.tensor([5, 3])) for v in (x, other))
    np.testing.assert_array_equal(a[0].numpy(), b[0].numpy())
    np.testing.assert_array_equal(a[1].numpy(), b[1].numpy())
    assert (a[0].numpy()[3:, 1] == 0).all()


def test_dropout_between_layers_only_in_training():
    layer = nn.LSTM(I, H, num_layers=2, dropout=0.5)
    x = mg.tensor(normal(T, N, I).astype("float32"))
    assert (layer(x)[0].numpy() != layer(x)[0].numpy()).any()
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].numpy(), layer(x)[0].numpy())


def test_a_compiled_layer_is_one_loop():
    layer = nn.LSTM(I, H)
    f = mg.compile(lambda x: layer(x)[0], backend="numpy")
    f(mg.tensor(normal(T, N, I).astype("float32")))
    assert [n.op.name for n in f.graph.operations].count("scan") == 1


def test_a_gate_in_the_wrong_place_would_be_seen(monkeypatch):
    ours, theirs = twins("LSTM", I, H)
    right = nn.recurrent.parts
    monkeypatch.setattr(nn.recurrent, "parts", lambda x, n: [right(x, n)[k] for k in (1, 0, 2, 3)])
    with pytest.raises(AssertionError):
        compare(ours, theirs, [normal(T, N, I)])


# ---------------------------------------------------------------------------------------------------------- attention

HEADS, E = 2, 8
CAUSAL = np.triu(np.ones((T, T), bool), 1)  # True is left out
PADDING = np.arange(T) >= np.array([[5], [2], [4]])


@pytest.mark.parametrize("mask", ["none", "causal", "truth", "numbers", "per head"])
def test_scaled_dot_product_attention(mask):
    torch = pytest.importorskip("torch")
    q, k, v = normal(N, HEADS, T, E), normal(N, HEADS, 7, E, seed=1), normal(N, HEADS, 7, 3, seed=2)
    masks = {
        "truth": normal(T, 7, seed=3) > -1,
        "numbers": normal(T, 7, seed=3),
        "per head": normal(HEADS, T, 7, seed=3),
    }
    options = {"is_causal": True} if mask == "causal" else {"scale": 0.3} if mask == "none" else {}
    m = masks.get(mask)
    ours = F.scaled_dot_product_attention(*map(mg.tensor, (q, k, v)), None if m is None else mg.tensor(m), **options)
    t = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.tensor, (q, k, v)), None if m is None else torch.tensor(m), **options
    )
    np.testing.assert_allclose(ours.numpy(), t.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{}, {"attn_mask": CAUSAL}, {"key_padding_mask": PADDING},
                                     {"attn_mask": CAUSAL, "key_padding_mask": PADDING}], ids=len)  # fmt: skip
@pytest.mark.parametrize("itself", [True, False])
def test_multihead_attention_is_pytorchs(itself, options, backend):
    torch = pytest.importorskip("torch")
    ours, theirs = twins("MultiheadAttention", E, HEADS, batch_first=True)

    def call(layer, *x):
        kind = mg.tensor if layer is ours else torch.tensor
        return layer(*(x * 3 if itself else x), **{k: kind(m) for k, m in options.items()})

    inputs = [normal(N, T, E, seed=k) for k in range(1 if itself else 3)]
    compare(ours, theirs, inputs, call, backend)


def test_multihead_attention_without_batches_weights_and_bias():
    ours, theirs = twins("MultiheadAttention", E, HEADS, bias=False)
    x = [normal(T, E), normal(7, E, seed=1), normal(7, E, seed=2)]
    compare(ours, theirs, x)
    compare(ours, theirs, x, lambda layer, *x: layer(*x, average_attn_weights=False))
    compare(ours, theirs, [normal(T, N, E)], lambda layer, x: layer(x, x, x, need_weights=False)[0])
    weights = ours(*map(mg.tensor, x))[1].numpy()
    np.testing.assert_allclose(weights.sum(-1), 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("norm_first", [True, False])
def test_transformer_layers_are_pytorchs(norm_first, backend):
    torch = pytest.importorskip("torch")
    options = {"dropout": 0.0, "activation": "gelu", "norm_first": norm_first, "batch_first": True}
    ours, theirs = twins("TransformerEncoderLayer", E, HEADS, 16, **options)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)
    causal = lambda layer, x: layer(x, is_causal=True) if layer is ours else layer(x, mask, is_causal=True)  # noqa: E731
    compare(ours, theirs, [normal(N, T, E)], backend=backend)
    compare(ours, theirs, [normal(N, T, E)], causal, backend)


def test_an_encoder_copies_its_layer():
    torch = pytest.importorskip("torch")
    ours, theirs = twins("TransformerEncoderLayer", E, HEADS, 16, dropout=0.0)
    ours = nn.TransformerEncoder(ours, 2, nn.LayerNorm(E, **F64))
    theirs = torch.nn.TransformerEncoder(
        theirs, 2, torch.nn.LayerNorm(E, dtype=torch.float64), enable_nested_tensor=False
    )
    assert list(ours.state_dict()) == list(theirs.state_dict())
    compare(ours, theirs, [normal(T, N, E)])
    assert len({id(p) for p in ours.parameters()}) == len(list(theirs.parameters()))


def test_a_causal_block_does_not_see_what_comes_later():
    block = nn.TransformerEncoderLayer(E, HEADS, 16, dropout=0.0, batch_first=True, norm_first=True)
    x = normal(1, T, E).astype("float32")
    other = x.copy()
    other[0, 3:] += 1
    a, b = (block(mg.tensor(v), is_causal=True).numpy() for v in (x, other))
    np.testing.assert_array_equal(a[0, :3], b[0, :3])
    assert (a[0, 3:] != b[0, 3:]).all()


def test_rms_norm_is_pytorchs():
    compare(*twins("RMSNorm", E), [normal(N, T, E)])
    compare(*twins("RMSNorm", (T, E), eps=0.1), [normal(N, T, E)])


def test_tied_weights_are_one_parameter():
    embedding, head = nn.Embedding(7, E), nn.Linear(E, 7, bias=False)
    head.weight = embedding.weight
    net = nn.Sequential(embedding, head)
    assert len(list(net.parameters())) == 1
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    before = embedding.weight.numpy().copy()
    nn.functional.cross_entropy(net(mg.tensor([1, 2])), mg.tensor([0, 3])).backward()
    optimizer.step()
    assert head.weight is embedding.weight and (embedding.weight.numpy() != before).all()


# ---------------------------------------------------------------------------------------------------------- bad input

x3, x4 = mg.zeros((T, N, 3)), mg.zeros((T, N, I))
MISTAKES = {
    "features": (lambda: nn.RNN(I, H)(x3), ShapeError, "RNN.*(T, N, 4)"),
    "integers": (lambda: nn.LSTM(I, H)(mg.zeros((T, N, I), dtype=mg.int64)), DTypeError, "LSTM.*nn.Embedding"),
    "empty": (lambda: nn.GRU(I, H)(mg.zeros((0, N, I))), ShapeError, "empty"),
    "state": (lambda: nn.GRU(I, H)(x4, mg.zeros((1, N, 5))), ShapeError, r"h: float32\[1, 3, 6\]"),
    "no pair": (lambda: nn.LSTM(I, H)(x4, mg.zeros((1, N, H))), ArgumentError, r"\(h, c\)"),
    "long": (lambda: nn.RNN(I, H)(x4, lengths=mg.tensor([5, 6, 1])), ArgumentError, "between 1 and 5"),
    "lengths": (lambda: nn.RNN(I, H)(x4, lengths=mg.tensor([5.0, 6.0, 1.0])), ShapeError, "integers, shape"),
    "nonlinearity": (lambda: nn.RNN(I, H, nonlinearity="sin"), ArgumentError, '"tanh" or "relu"'),
    "cell": (lambda: nn.LSTMCell(I, H)(x3[0]), ShapeError, "LSTMCell"),
    "heads": (lambda: nn.MultiheadAttention(E, 3), ArgumentError, "a divisor of embed_dim, 8"),
    "query": (lambda: nn.MultiheadAttention(E, 2)(x4, x4, x4), ShapeError, r"query: \(T, N, 8\)"),
    "mask": (lambda: nn.MultiheadAttention(I, 2)(x4, x4, x4, attn_mask=mg.ones((2, 2))), ShapeError, "attn_mask"),
    "mask type": (lambda: nn.MultiheadAttention(I, 2)(x4, x4, x4, attn_mask=mg.zeros((T, T), dtype=mg.int64)),
                  DTypeError, "True is left out"),
    "values": (lambda: F.scaled_dot_product_attention(x4, x4, x3[:, :2]), ShapeError, "one value for each key"),
    "both": (lambda: F.scaled_dot_product_attention(x4, x4, x4, mg.ones((N, N)), is_causal=True),
             ArgumentError, "actual *both"),
    "activation": (lambda: nn.TransformerEncoderLayer(I, 2, activation="sin"), ArgumentError, '"gelu" or a function'),
    "norm": (lambda: nn.RMSNorm(3)(x4), ShapeError, "RMSNorm"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name):
    call, error, words = MISTAKES[name]
    with pytest.raises(error, match=f"(?s){words}"):
        call()
