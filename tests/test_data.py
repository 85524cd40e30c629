"""Datasets, the loader and its state, and downloads from a server of our own."""

import contextlib
import hashlib
import http.server
import json
import math
import os
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigraph as mg
from minigraph.data import DataLoader, Dataset, DownloadError, Subset, TensorDataset, datasets, download, random_split
from minigraph.data.dataset import permutation
from minigraph.errors import ArgumentError, BoundsError, DTypeError, ShapeError


def rows(batches):
    """The numbers of one-column batches, as a list of lists."""
    return [batch[0].numpy().tolist() for batch in batches]


# ------------------------------------------------------------------------------------------------------- datasets


def test_tensor_dataset_rows_and_everything():
    x, y = np.arange(6.0).reshape(3, 2), [0, 1, 1]
    dataset = TensorDataset(x, y, mg.tensor([True, False, True]))
    assert len(dataset) == 3 and isinstance(dataset, Dataset)
    a, b, c = dataset[-1]
    assert a.numpy().tolist() == [4, 5] and b.item() == 1 and c.item() is True
    assert [t.dtype for t in dataset.tensors] == [np.float64, np.int64, bool]
    assert np.array_equal(dataset.tensors[0].numpy(), x)
    assert len(list(dataset)) == 3


def test_batches_and_rows_do_not_see_later_changes_of_the_array():
    x = np.arange(4.0)
    dataset = TensorDataset(x)
    row, (everything,), (batch,) = dataset[0][0], dataset.tensors, next(iter(DataLoader(dataset, 4)))
    x[:] = -1
    assert row.item() == 0
    assert everything.numpy().tolist() == batch.numpy().tolist() == [0, 1, 2, 3]


def test_tensor_dataset_refuses_what_is_no_table():
    with pytest.raises(ShapeError, match=r"array 0: \(3,\), array 1: \(2, 2\)"):
        TensorDataset(np.zeros(3), np.zeros((2, 2)))
    with pytest.raises(ShapeError, match="array 1 has no rows"):
        TensorDataset([1], 2)
    with pytest.raises(ArgumentError, match="at least one array"):
        TensorDataset()
    with pytest.raises(DTypeError):
        TensorDataset(["a", "b"])
    with pytest.raises(ShapeError, match="ragged"):
        TensorDataset([[1], [2, 3]])
    with pytest.raises(IndexError, match="no such row"):
        TensorDataset([1, 2])[2]


def test_subset():
    part = Subset("abcdef", [5, 0, 0])
    assert len(part) == 3 and list(part) == ["f", "a", "a"] and part[-3] == "f"
    assert len(Subset("abc", [])) == 0
    with pytest.raises(BoundsError, match="no such row"):
        Subset("abc", [0, 3])
    with pytest.raises(BoundsError):
        Subset("abc", [-1])
    with pytest.raises(DTypeError, match="flatnonzero"):
        Subset("abc", [True, False, True])


@given(n=st.integers(1, 60), weights=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 2**70))
def test_parts_of_a_split_cover_everything_once(n, weights, seed):
    fractions = [w / sum(weights) for w in weights]
    if min(f * n for f in fractions) < 1:
        with contextlib.suppress(ArgumentError):  # a part may come out empty, which is refused
            random_split(list(range(n)), fractions, seed=seed)
        return
    parts = random_split(list(range(n)), fractions, seed=seed)
    assert sorted(row for part in parts for row in part) == list(range(n))
    assert all(abs(len(part) - f * n) < len(weights) for part, f in zip(parts, fractions, strict=True))
    again = random_split(TensorDataset(np.arange(n)), [len(part) for part in parts], seed=seed)
    assert [part.tensors[0].numpy().tolist() for part in again] == [list(part) for part in parts]


def test_thirds_split_evenly():
    assert [len(part) for part in random_split(range(9), [1 / 3, 1 / 3, 1 / 3], seed=0)] == [3, 3, 3]
    assert [len(part) for part in random_split(range(1797), [2 / 3, 1 / 3], seed=0)] == [1198, 599]


def test_another_seed_splits_differently():
    assert list(random_split(range(50), [25, 25], seed=0)[0]) != list(random_split(range(50), [25, 25], seed=1)[0])


@pytest.mark.parametrize(
    ("lengths", "message"),
    [([3, 3], r"10 rows(.|\n)*3 \+ 3 = 6"), ([0.5, 0.4], "sum 0.9"), ([-1, 11], "none negative"),
     ([10, 0], "part 1 would be empty"), (["a"], "counts or fractions"), ([], "10 rows"),
     ([math.nan, 1.0], "none negative")],
)  # fmt: skip
def test_impossible_splits(lengths, message):
    with pytest.raises(ArgumentError, match=message):
        random_split(range(10), lengths, seed=0)


def test_permutations_are_pinned():
    """Runs are resumed under other versions of NumPy: these numbers must never change."""
    assert permutation(10, 0, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    assert sorted(permutation(1000, 3, 4).tolist()) == list(range(1000))
    assert permutation(100, 0, 1).tolist() != permutation(100, 1, 0).tolist()


def test_every_place_is_equally_likely():
    counts = np.zeros((5, 5))
    for seed in range(2000):
        counts[np.arange(5), permutation(5, seed, 0)] += 1
    assert (((counts - 400) ** 2 / 400).sum() * 4 / 5) < 45  # chi-squared, 16 degrees of freedom: p = 0.0001


# --------------------------------------------------------------------------------------------------------- loader

loaders = st.fixed_dictionaries(
    {"batch_size": st.integers(1, 7), "shuffle": st.booleans(), "drop_last": st.booleans(), "seed": st.integers(0, 5)}
)


@given(n=st.integers(1, 20), options=loaders)
def test_an_epoch_is_every_row_once(n, options):
    if options["drop_last"] and options["batch_size"] > n:
        return
    for dataset in (TensorDataset(np.arange(n)), [(i,) for i in range(n)]):
        loader = DataLoader(dataset, **options)
        batches = rows(loader)
        assert len(batches) == len(loader)
        flat = [i for batch in batches for i in batch]
        size = options["batch_size"]
        if options["drop_last"]:
            assert all(len(batch) == size for batch in batches) and len(set(flat)) == len(flat) == n - n % size
        else:
            assert all(len(batch) == size for batch in batches[:-1]) and sorted(flat) == list(range(n))
        if not options["shuffle"]:
            assert flat == list(range(len(flat)))


@given(n=st.integers(1, 12), options=loaders, stop=st.integers(0, 30), fast=st.booleans())
def test_resuming_anywhere_gives_the_batches_that_would_have_come(n, options, stop, fast):
    if options["drop_last"] and options["batch_size"] > n:
        return
    dataset = TensorDataset(np.arange(n)) if fast else [(i,) for i in range(n)]
    reference = [row for loader in [DataLoader(dataset, **options)] for _ in range(4) for row in rows(loader)]
    loader = DataLoader(dataset, **options)
    stop = min(stop, 2 * len(loader))
    seen, state = [], loader.state_dict()
    while len(seen) < stop:
        for (batch,) in loader:
            seen.append(batch.numpy().tolist())
            state = json.loads(json.dumps(loader.state_dict()))
            if len(seen) == stop:
                break
    other = DataLoader(dataset, **(options | {"seed": 99}))
    other.load_state_dict(state)
    rest = [row for _ in range(4) for row in rows(other)]
    assert (seen + rest)[: len(reference)] == reference


def test_state_after_the_last_batch_is_the_end_of_the_epoch():
    loader = DataLoader(TensorDataset(np.arange(4)), 2)
    for _ in loader:
        last = loader.state_dict()
    assert (last["epoch"], last["position"]) == (0, 2) and loader.state_dict() == last | {"epoch": 1, "position": 0}
    other = DataLoader(TensorDataset(np.arange(4)), 2)
    other.load_state_dict(last)
    assert rows(other) == [] and rows(other) == [[0, 1], [2, 3]]  # the interrupted epoch had only its end left


def test_epochs_have_different_orders_and_seeds_repeat_them():
    data = TensorDataset(np.arange(100))
    loader, again = DataLoader(data, 100, shuffle=True, seed=3), DataLoader(data, 100, shuffle=True, seed=3)
    first, second = rows(loader), rows(loader)
    assert first != second and [rows(again), rows(again)] == [first, second]
    assert rows(DataLoader(data, 100, shuffle=True, seed=4)) != first
    assert rows(DataLoader(data, 100, shuffle=True)) != rows(DataLoader(data, 100, shuffle=True))


def test_a_loop_that_is_left_early_is_followed_by_the_next_epoch():
    data = TensorDataset(np.arange(10))
    loader, whole = DataLoader(data, 2, shuffle=True, seed=0), DataLoader(data, 2, shuffle=True, seed=0)
    next(iter(loader))
    rows(whole)
    assert rows(loader) == rows(whole)


def test_two_loops_at_once_do_not_disturb_each_other():
    data = TensorDataset(np.arange(6))
    loader, reference = DataLoader(data, 2, shuffle=True, seed=0), DataLoader(data, 2, shuffle=True, seed=0)
    pairs = list(zip(loader, loader, strict=True))
    assert rows(a for a, _ in pairs) == rows(reference) and rows(b for _, b in pairs) == rows(reference)
    assert loader.state_dict() == reference.state_dict()


def test_state_survives_a_checkpoint(tmp_path):
    data = TensorDataset(np.arange(9))
    loader = DataLoader(data, 2, shuffle=True)  # a seed of 128 bits
    batches = iter(loader)
    next(batches)
    mg.save_checkpoint(tmp_path / "x", loader=loader.state_dict())
    other = DataLoader(data, 2, shuffle=True)
    other.load_state_dict(mg.load_checkpoint(tmp_path / "x")["loader"])
    assert rows(other) == rows(batches)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"batch_size": 3}, "another batch_size"), ({"shuffle": True}, "another shuffle"),
     ({"length": 9}, "another length"), ({"drop_last": True}, "another drop_last"), ({"position": -1}, "position"),
     ({"position": 6}, "position"), ({"epoch": 1.5}, "epoch"), ({"seed": -1}, "seed"),
     ({"extra": 1}, "a state of a loader")],
)  # fmt: skip
def test_a_state_of_another_loader_is_refused(change, message):
    loader = DataLoader(TensorDataset(np.arange(10)), 2, seed=0)
    state = loader.state_dict()
    with pytest.raises(ArgumentError, match=message):
        loader.load_state_dict(state | change)
    with pytest.raises(ArgumentError, match="a state of a loader"):
        loader.load_state_dict(None)
    assert loader.state_dict() == state


@pytest.mark.parametrize(
    ("dataset", "options", "error", "message"),
    [
        (TensorDataset(np.zeros(0)), {}, ArgumentError, "the dataset is empty"),
        ([], {}, ArgumentError, "the dataset is empty"),
        ([1], {"batch_size": 0}, ArgumentError, r"batch_size(.|\n)*>= 1(.|\n)*0"),
        ([1], {"batch_size": -2}, ArgumentError, "batch_size"),
        ([1], {"batch_size": 1.5}, ArgumentError, "batch_size"),
        ([1], {"batch_size": True}, ArgumentError, "batch_size"),
        ([1, 2], {"batch_size": 3, "drop_last": True}, ArgumentError, "drop every batch"),
        ([1], {"seed": -1}, ArgumentError, "seed"),
        ([1], {"seed": "a"}, ArgumentError, "seed"),
        (iter([1]), {}, DTypeError, r"list\(\.\.\.\)"),
    ],
)
def test_impossible_loaders(dataset, options, error, message):
    with pytest.raises(error, match=message):
        DataLoader(dataset, **options)


def test_collate_keeps_the_nesting_of_a_row():
    data = [({"x": np.full(2, i, np.float32), "n": float(i)}, [i, i > 0], mg.tensor(i)) for i in range(3)]
    named, (i, positive), t = next(iter(DataLoader(data, 3)))
    assert (
        named["x"].numpy().tolist() == [[0, 0], [1, 1], [2, 2]] and named["x"].dtype == named["n"].dtype == np.float32
    )
    assert i.dtype == t.dtype == np.int64 and positive.numpy().tolist() == [False, True, True] and t.shape == (3,)


def test_collate_explains_rows_that_do_not_fit():
    with pytest.raises(ShapeError, match=r"\(2,\), as in row 0(.|\n)*\(3,\) in row 1(.|\n)*collate_fn"):
        next(iter(DataLoader([np.zeros(2), np.zeros(3)], 2)))
    with pytest.raises(
        ArgumentError, match=r"row 1(.|\n)*row is a tuple of 2 in the first, a tuple of 1 in the second"
    ):
        next(iter(DataLoader([(1, 2), (1,)], 2)))
    with pytest.raises(DTypeError, match="str"):
        next(iter(DataLoader(["a", "b"], 2)))


def test_collate_fn_sees_the_rows():
    assert list(DataLoader(["a", "bc", "def"], 2, collate_fn="".join)) == ["abc", "def"]
    data = TensorDataset([1, 2], [3, 4])
    assert list(DataLoader(data, 2, collate_fn=lambda rows: [[t.item() for t in row] for row in rows])) == [
        [[1, 3], [2, 4]]
    ]


def test_arrays_are_datasets():
    assert rows(DataLoader(np.arange(3), 2)) == rows(DataLoader(mg.tensor([0, 1, 2]), 2)) == [[0, 1], [2]]


# ----------------------------------------------------------------------------------------------------- real data


def test_digits():
    sklearn = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.digits()
    flat, _ = datasets.digits(flat=True)
    assert images.shape == (1797, 1, 8, 8) and flat.shape == (1797, 64) and images.dtype == flat.dtype == np.float32
    assert images.numpy().min() == 0 and images.numpy().max() == 1 and labels.dtype == np.int64
    reference = sklearn.load_digits()
    assert np.array_equal(flat.numpy() * 16, reference.data) and np.array_equal(labels.numpy(), reference.target)
    assert np.array_equal(images.numpy().reshape(1797, 64), flat.numpy())


def test_digits_without_sklearn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        datasets.digits()


def test_two_moons_lie_on_half_circles():
    x, y = datasets.two_moons(201, noise=0.0)
    x, y = x.numpy(), y.numpy()
    assert x.dtype == np.float32 and y.dtype == np.int64 and x.shape == (201, 2) and (y == 0).sum() == 101
    upper, lower = x[y == 0], x[y == 1] - [1, 0.5]
    assert np.allclose((upper**2).sum(1), 1, atol=1e-6) and (upper[:, 1] >= 0).all()
    assert np.allclose((lower**2).sum(1), 1, atol=1e-6) and (lower[:, 1] <= 0).all()


def test_spirals_wind():
    x, y = datasets.spirals(300, classes=3, turns=0.5, noise=0.0)
    x, y = x.numpy().astype(float), y.numpy()
    radius = np.hypot(*x.T)
    assert np.bincount(y).tolist() == [100, 100, 100] and radius.max() <= 1
    angle = np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi) - y / 3 - 0.5 * radius
    assert np.allclose(angle - np.round(angle), 0, atol=1e-5)


@pytest.mark.parametrize("make", [datasets.two_moons, datasets.spirals])
def test_made_up_data_are_seeded(make):
    (a, _), (b, _), (c, _) = make(50, seed=1), make(50, seed=1), make(50, seed=2)
    assert np.array_equal(a.numpy(), b.numpy()) and not np.array_equal(a.numpy(), c.numpy())
    with pytest.raises(ArgumentError, match="n=1"):
        make(1)
    with pytest.raises(ArgumentError, match="noise"):
        make(50, noise=-1)


# ------------------------------------------------------------------------------------------------------- download

CONTENT = bytes(range(256)) * 1000
RIGHT = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT well or badly, depending on the address."""

    def do_GET(self):
        self.server.requests.append(self.path)
        match self.path:
            case "/file" | "/unsized":
                self.send_response(200)
                if self.path == "/file":
                    self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT)
            case "/truncated":
                self.send_response(200)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()
                self.wfile.write(CONTENT[:1000])
            case "/chunks-cut":
                self.protocol_version = "HTTP/1.1"
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"5\r\nhello\r\nff\r\nabc")
            case "/moved":
                self.redirect("/file")
            case "/elsewhere":
                self.redirect(f"http://localhost:{self.server.server_port}/file")
            case "/to-ftp":
                self.redirect("ftp://127.0.0.1/file")
            case "/to-file":
                self.redirect("file:///etc/hostname")
            case "/loop":
                self.redirect("/loop")
            case _:
                self.send_error(404)
        self.close_connection = True

    def redirect(self, target):
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def url(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.requests.clear()
    return f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize("address", ["/file", "/unsized", "/moved", "/elsewhere"])
def test_download(url, server, tmp_path, address):
    path = tmp_path / "data.bin"
    assert download(url + address, path, sha256=RIGHT.upper(), progress=False) == str(path)
    assert path.read_bytes() == CONTENT and os.listdir(tmp_path) == ["data.bin"]
    server.requests.clear()
    download(url + address, path, sha256=RIGHT)
    assert server.requests == []  # it is there already


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("/truncated", r"was cut off(.|\n)*256,000 bytes(.|\n)*1,000 bytes"),
        ("/chunks-cut", "was cut off"),
        ("/missing", r"refuses(.|\n)*404"),
        ("/to-ftp", r"redirects to ftp://(.|\n)*ftp"),
        ("/to-file", "redirects to file:|refuses"),
        ("/loop", r"refuses(.|\n)*30"),
    ],
)
def test_what_goes_wrong_leaves_nothing_behind(url, tmp_path, address, message):
    with pytest.raises(DownloadError, match=message) as error:
        download(url + address, tmp_path / "data.bin", sha256=RIGHT, progress=False)
    assert isinstance(error.value, OSError) and os.listdir(tmp_path) == []


def test_the_wrong_contents_are_not_kept(url, tmp_path):
    wrong = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(DownloadError, match=rf"not the expected file(.|\n)*{wrong}(.|\n)*{RIGHT}"):
        download(url + "/file", tmp_path / "data.bin", sha256=wrong, progress=False)
    assert os.listdir(tmp_path) == []


def test_another_file_at_the_path_is_left_alone(url, server, tmp_path):
    path = tmp_path / "data.bin"
    path.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"another file(.|\n)*remove or rename"):
        download(url + "/file", path, sha256=RIGHT)
    assert path.read_bytes() == b"mine" and server.requests == []


def test_no_server_and_no_folder(url, tmp_path):
    with pytest.raises(DownloadError, match="cannot reach"):
        download("http://127.0.0.1:1/file", tmp_path / "x", sha256=RIGHT, progress=False)
    with pytest.raises(DownloadError, match="there is no folder"):
        download(url + "/file", tmp_path / "missing" / "x", sha256=RIGHT, progress=False)


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data.bin", ""])
def test_only_http(tmp_path, address):
    with pytest.raises(ArgumentError, match="http"):
        download(address, tmp_path / "x", sha256=RIGHT)


@pytest.mark.parametrize("checksum", ["", "abc", "z" * 64, RIGHT + "0"])
def test_checksums_are_64_hexadecimal_digits(tmp_path, checksum):
    with pytest.raises(ArgumentError, match="64 hexadecimal digits"):
        download("http://127.0.0.1/x", tmp_path / "x", sha256=checksum)


def test_encryption_is_not_given_up():
    from minigraph.data.fetch import _check_redirect

    with pytest.raises(DownloadError, match="redirects to http://"):
        _check_redirect("https://a.example/x", "http://a.example/x")
    _check_redirect("https://a.example/x", "https://b.example/x")
    _check_redirect("http://a.example/x", "https://b.example/x")


def test_progress_is_shown_where_tqdm_is_there(url, tmp_path, capfd, monkeypatch):
    pytest.importorskip("tqdm")
    download(url + "/file", tmp_path / "a.bin", sha256=RIGHT)
    assert "a.bin" in capfd.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    download(url + "/file", tmp_path / "b.bin", sha256=RIGHT)
    assert capfd.readouterr().err == ""


def test_ctrl_c_in_mid_download_leaves_nothing(url, tmp_path, monkeypatch):
    @contextlib.contextmanager
    def interrupted(*args):
        def strike(n):
            raise KeyboardInterrupt

        yield strike

    monkeypatch.setattr("minigraph.data.fetch._bar", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(url + "/file", tmp_path / "x", sha256=RIGHT)
    assert os.listdir(tmp_path) == []
