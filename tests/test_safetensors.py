"""Files: exact round trips, nothing lost when writing fails, and bad bytes that only ever give a clear error."""

import contextlib
import errno
import json
import math
import os
import pickle
import shutil
import struct
import subprocess
import sys
import textwrap
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigraph as mg
from minigraph.errors import CheckpointError
from minigraph.interop.safetensors import CHECKPOINT_KEY, DTYPES, MAX_HEADER

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def write(path, header, data=b"", length=None):
    """A safetensors file by hand: any header (an object or raw bytes), any data, any claimed length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def info(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def same(a, b):
    """Equal in type, nesting, key order, dtype, shape and every bit."""
    if isinstance(a, mg.Tensor):
        return isinstance(b, mg.Tensor) and same(a.numpy(), b.numpy())
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (a != a and b != b)
    return a == b


dtypes = st.sampled_from([np.dtype(t) for t in DTYPES.values()])
arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)


# ------------------------------------------------------------------------------------------------- save and load


@same_folder
@given(
    tensors=st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5).filter("__metadata__".__ne__), arrays, max_size=4
    )
)
def test_what_is_saved_is_loaded(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    mg.save(path, tensors)
    loaded = mg.load(path)
    assert list(loaded) == sorted(tensors)
    assert all(same(np.asarray(tensors[k]), np.asarray(loaded[k].numpy())) for k in tensors)
    reference = safetensors.numpy.load_file(path)  # the format's own reader agrees
    assert all(same(np.asarray(tensors[k]), np.asarray(reference[k])) for k in tensors)


def test_tensors_variables_views_and_foreign_byte_order(tmp_path):
    path = tmp_path / "x.safetensors"
    base = np.arange(12.0).reshape(3, 4)
    mg.save(
        path,
        {
            "t": mg.tensor([1.0]),
            "v": mg.Variable([2, 3]),
            "view": base[::-2, ::3].T,
            "big": base.astype(">f8"),
            "s": np.float32(5),
        },
    )
    loaded = mg.load(path)
    assert loaded["t"].numpy() == 1 and loaded["v"].numpy().tolist() == [2, 3] and loaded["s"].shape == ()
    assert np.array_equal(loaded["view"].numpy(), base[::-2, ::3].T) and np.array_equal(loaded["big"].numpy(), base)
    assert loaded["big"].dtype == np.float64 and loaded["big"].dtype.isnative


def test_loaded_tensors_do_not_depend_on_the_file_any_more(tmp_path):
    path = tmp_path / "x.safetensors"
    mg.save(path, {"x": np.ones(100_000)})
    x = mg.load(path)["x"]
    os.truncate(path, 0)  # a memory map would now kill the process
    assert x.numpy().sum() == 100_000


def test_metadata(tmp_path):
    path = tmp_path / "x.safetensors"
    mg.save(path, {"x": np.ones(2)}, {"epoch": "3", "π": "\n\0"})
    assert mg.load_metadata(path) == {"epoch": "3", "π": "\n\0"}
    mg.save(path, {})
    assert mg.load_metadata(path) == {} and mg.load(path) == {}


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ([np.ones(1)], None, "tensors by name"),
        ({1: np.ones(1)}, None, "a name that the format cannot hold"),
        ({"__metadata__": np.ones(1)}, None, "a name that the format cannot hold"),
        ({"\ud800": np.ones(1)}, None, "a name that the format cannot hold"),
        ({"x": [1.0]}, None, "'x' is not a tensor"),
        ({"x": np.ones(1, complex)}, None, "store .real and .imag"),
        ({"x": np.array(["a"])}, None, "dtype <U1"),
        ({"x": np.array([None])}, None, "dtype object"),
        ({"x": np.ones(1)}, {"epoch": 3}, "metadata are strings by strings"),
    ],
)
def test_what_the_format_cannot_hold_is_refused_before_writing(tmp_path, tensors, metadata, message):
    with pytest.raises(CheckpointError, match=message):
        mg.save(tmp_path / "x.safetensors", tensors, metadata)
    assert os.listdir(tmp_path) == []


def test_bfloat16_arrays_are_refused_by_name(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with pytest.raises(CheckpointError, match=r"dtype bfloat16(.|\n)*astype"):
        mg.save(tmp_path / "x.safetensors", {"x": np.ones(2, ml_dtypes.bfloat16)})


# ------------------------------------------------------------------------------------------------------ atomicity


@pytest.fixture
def old(tmp_path):
    """A folder with one good file, and the assertion that it is all there is."""
    path = tmp_path / "x.safetensors"
    mg.save(path, {"x": np.arange(3)})
    before = path.read_bytes()

    def intact():
        assert os.listdir(tmp_path) == ["x.safetensors"] and path.read_bytes() == before

    return path, intact


@pytest.mark.parametrize("moment", ["safetensors.numpy.save_file", "os.fsync", "os.replace"])
@pytest.mark.parametrize("blow", [KeyboardInterrupt(), MemoryError(), OSError(errno.EIO, "Input/output error")])
def test_the_old_file_survives_whatever_happens_while_writing(old, monkeypatch, moment, blow):
    path, intact = old

    def strike(*args, **kwargs):
        raise blow

    monkeypatch.setattr(moment, strike)
    expected = CheckpointError if isinstance(blow, OSError) else type(blow)
    with pytest.raises(expected):
        mg.save(path, {"x": np.ones(10)})
    monkeypatch.undo()
    intact()


def test_a_writer_that_is_not_atomic_would_be_caught(old, monkeypatch):
    """The planted bug for the test above: writing in place loses the old file."""
    path, intact = old

    def in_place(*args, **kwargs):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.numpy.save_file", in_place)
    with pytest.raises(KeyboardInterrupt):
        mg.save(path, {"x": np.ones(10)})
    with pytest.raises(AssertionError):
        intact()


def test_a_full_disk_says_how_much_is_needed_and_free(old, monkeypatch):
    path, intact = old

    def full(*args, **kwargs):
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(10_000, 8_766, 1_234))
    with pytest.raises(
        CheckpointError, match=r"no room(.|\n)*8,\d\d\d bytes\n(.|\n)*1,234 bytes free(.|\n)*is unchanged"
    ):
        mg.save(path, {"x": np.ones(1000)})
    intact()


SAVE_TOO_MUCH = """
    import sys, numpy as np, minigraph as mg
    mg.save(sys.argv[1], {"x": np.arange(3)})
    before = open(sys.argv[1], "rb").read()
    LIMIT
    try:
        mg.save(sys.argv[1], {"x": np.ones(1_000_000)})
    except mg.errors.CheckpointError as error:
        print(error)
    import os
    assert os.listdir(os.path.dirname(sys.argv[1])) == ["x.safetensors"] and open(sys.argv[1], "rb").read() == before
"""


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits are POSIX")
def test_a_file_size_limit_is_an_error_that_loses_nothing(tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    program = textwrap.dedent(SAVE_TOO_MUCH).replace("LIMIT", limit)
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x.safetensors")], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "no room" in result.stdout and "8,000,1" in result.stdout and "is unchanged" in result.stdout


def test_a_really_full_disk(tmp_path):
    """On a small disk of its own, where the system lets an ordinary user make one."""
    mount = f"mount -t tmpfs -o size=256k none {tmp_path}"
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("no user namespaces with mounts here")
    program = textwrap.dedent(SAVE_TOO_MUCH).replace("LIMIT", "")
    script = f'{mount} && exec "$0" -c "$1" {tmp_path}/x.safetensors'
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, sys.executable, program], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "No space left on device" in result.stdout and "8,000,1" in result.stdout and "bytes free" in result.stdout


def test_where_a_file_cannot_be(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no folder(.|\n)*makedirs"):
        mg.save(tmp_path / "missing" / "x.safetensors", {})
    with pytest.raises(CheckpointError, match=r"is a folder(.|\n)*add a file name"):
        mg.save(tmp_path, {})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_pipes_are_neither_replaced_nor_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for action in (lambda path: mg.save(path, {}), mg.load):
        with pytest.raises(CheckpointError, match="pipe"):
            action(tmp_path / "pipe")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_and_links_are_kept(tmp_path):
    path, link = tmp_path / "x", tmp_path / "link"
    mg.save(path, {})
    plain = tmp_path / "plain"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode  # as any new file
    path.chmod(0o600)
    link.symlink_to(path)
    mg.save(link, {"x": np.ones(1)})
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o600 and list(mg.load(path)) == ["x"]


# -------------------------------------------------------------------------------------------------- hostile files

FLOATS = b"\0" * 8
HOSTILE = {
    "empty file": (b"", "0 bytes"),
    "shorter than the length": (b"\1\0\0", "3 bytes"),
    "text": (b"hello, this is a text file", "starts with b'hello, th'"),
    "zip": (b"PK\x03\x04" + b"\0" * 40, "zip(.|\n)*np.load"),
    "npy": (b"\x93NUMPY\x01\0" + b"v" * 40, "NumPy .npy"),
    "pickle": (pickle.dumps({"a": list(range(10))}), "pickle"),
    "web page": (b"<!DOCTYPE html><html></html>", "web page"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "header longer than the file": ((200, {"a": info()}, FLOATS[:4]), "208 bytes or more(.|\n)*truncated"),
    "header of an exabyte": ((1 << 60, {"a": info()}, FLOATS[:4]), "claims 1,152,921,504,606,846,976 bytes"),
    "no JSON": ((None, b'{"a": ]', b""), "JSON"),
    "not UTF-8": ((None, b'{"\xff": 1}', b""), "JSON"),
    "endless nesting": ((None, b'{"a":' + b"[" * 200_000, b""), "JSON"),
    "numbers without end": ((None, b'{"a":' + b"9" * 10_000 + b"}", b""), "JSON"),
    "no description": ((None, {"a": 3}, b""), "damaged"),
    "data missing": ((None, {"a": info(shape=[2], offsets=[0, 8])}, FLOATS[:5]), "truncated"),
    "data in excess": ((None, {"a": info()}, FLOATS), "damaged"),
    "overlap": ((None, {"a": info(), "b": info(offsets=[0, 4])}, FLOATS), "offset"),
    "gap": ((None, {"a": info(), "b": info(offsets=[5, 9])}, FLOATS + b"\0"), "offset"),
    "backwards": ((None, {"a": info(offsets=[4, 0])}, FLOATS[:4]), "offset"),
    "negative": ((None, {"a": info(offsets=[-4, 0])}, b""), "damaged"),
    "offsets beyond the end": ((None, {"a": info(offsets=[0, 1 << 62])}, FLOATS[:4]), "4,611,686,018,427,387,9"),
    "shape and size disagree": ((None, {"a": info(shape=[2])}, FLOATS[:4]), "shape"),
    "overflowing shape": ((None, {"a": info(shape=[1 << 62, 1 << 62])}, FLOATS[:4]), "overflow"),
    "impossible empty shape": ((None, {"a": info(shape=[0, (1 << 64) - 1], offsets=[0, 0])}, b""), "possible shape"),
    "too many axes": ((None, {"a": info(shape=[1] * 65)}, FLOATS[:4]), "possible shape"),
    "unknown dtype": ((None, {"a": info("X7")}, FLOATS[:4]), "X7"),
    "bfloat16": ((None, {"a": info("BF16", [2])}, FLOATS[:4]), r"'a'(.|\n)*BF16(.|\n)*\.float\(\)"),
    "float8": ((None, {"a": info("F8_E4M3", [4])}, FLOATS[:4]), "F8_E4M3"),
    "complex": ((None, {"a": info("C64", [1], [0, 8])}, FLOATS), "C64"),
    "bool of 2": ((None, {"a": info("BOOL", [4])}, b"\0\1\2\0"), "bytes 0 and 1"),
    "duplicate names": (
        (None, b'{"a":%s,"\\u0061":%s}' % ((json.dumps(info()).encode(),) * 2), FLOATS[:4]),
        "the name 'a' twice",
    ),
    "duplicate metadata": ((None, b'{"__metadata__":{"k":"1","k":"2"}}', b""), "the name 'k' twice"),
    "metadata that are no strings": ((None, {"__metadata__": {"k": 1}}, b""), "damaged"),
    "a list for a header": ((None, b"[1]", b""), "not a safetensors file"),
}


def hostile(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        length, header, data = content
        write(path, header, data, length)
    return path


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_with_the_reason(tmp_path, case):
    content, message = HOSTILE[case]
    path = hostile(tmp_path / "evil.safetensors", content)
    with pytest.raises(CheckpointError, match=message) as error:
        mg.load(path)
    parts = error.value
    assert str(path) in parts.what and parts.expected and parts.actual and parts.remedy
    with pytest.raises(CheckpointError):
        mg.load_checkpoint(path)


def test_the_hand_written_file_itself_is_good(tmp_path):
    """So that the cases above fail for their own reason and not for a mistake of `write`."""
    path = write(tmp_path / "good", {"a": info(), "b": info("F64", [], [4, 12])}, b"\0" * 12)
    assert {k: (v.shape, v.dtype) for k, v in mg.load(path).items()} == {"a": ((1,), np.float32), "b": ((), np.float64)}


def test_archives_of_other_libraries_are_recognised(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    np.save(tmp_path / "a.npy", np.ones(2))
    with pytest.raises(CheckpointError, match="zip"):
        mg.load(tmp_path / "a.npz")
    with pytest.raises(CheckpointError, match="npy"):
        mg.load(tmp_path / "a.npy")


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError):
        mg.load(tmp_path / "missing")
    with pytest.raises(CheckpointError, match="is a folder"):
        mg.load(tmp_path)


def test_names_are_keys_and_never_paths(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    names = ["../evil", "/etc/evil", "..\\evil", "C:\\evil", "~/evil", "a/../../evil", "evil\0.txt", "$HOME", ""]
    path = inner / "x.safetensors"
    mg.save(path, {name: np.ones(1) for name in names})
    assert sorted(mg.load(path)) == sorted(names)
    mg.save_checkpoint(path, state={name: np.ones(1) for name in names})
    assert list(mg.load_checkpoint(path)["state"]) == names
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == [
        "inner",
        os.path.join("inner", "x.safetensors"),
    ]


def test_memory_is_bounded_by_the_file(tmp_path):
    cases = [
        write(tmp_path / "a", {"a": info()}, FLOATS[:4], length=1 << 40),
        write(tmp_path / "b", {"a": info(shape=[1 << 40], offsets=[0, 1 << 42])}, FLOATS),
        write(tmp_path / "c", {"a": info(shape=[0, 1 << 40], offsets=[0, 0])}),
        write(tmp_path / "d", {"a": info()}, FLOATS[:4], length=MAX_HEADER),
    ]
    mg.load(cases[2])  # imports what it needs
    for path in cases:
        tracemalloc.start()
        with contextlib.suppress(CheckpointError):
            mg.load(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000


@pytest.fixture(scope="module")
def good_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    mg.save(
        folder / "a",
        {"w": np.arange(6.0).reshape(2, 3), "b": np.array([True, False]), "e": np.ones((0, 2))},
        {"k": "v"},
    )
    mg.save_checkpoint(folder / "b", model={"w": mg.tensor([1.0])}, n=2**70, x=math.nan, t=(1, [2, {"k": None}]))
    return [(folder / name).read_bytes() for name in "ab"]


def only_teaches(path, content):
    """Reading gives a dict, or one of the errors that are allowed."""
    path.write_bytes(content)
    for read in (mg.load, mg.load_metadata, mg.load_checkpoint):
        with contextlib.suppress(CheckpointError, OSError):
            assert isinstance(read(path), dict)


@settings(same_folder, max_examples=400)
@given(data=st.data())
def test_mutated_files_never_do_anything_but_teach(tmp_path, good_files, data):
    content = bytearray(data.draw(st.sampled_from(good_files)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert", "repeat", "digit"])):
            case "change":
                content[at] = data.draw(st.integers(0, 255))
            case "digit":
                content[at] = data.draw(st.sampled_from(b'0123456789{}[]",:x'))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 9))]
                content = content or bytearray(b"\0")
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=9))
            case "repeat":
                content[at:at] = content[max(0, at - 20) : at]
    only_teaches(tmp_path / "x", bytes(content))


@settings(same_folder, max_examples=200)
@given(
    header=st.dictionaries(
        st.text(max_size=3) | st.just("__metadata__"),
        st.fixed_dictionaries({
            "dtype": st.sampled_from([*DTYPES, "BF16", "F4", "C64", "?"]),
            "shape": st.lists(st.integers(-1, 4) | st.integers(), max_size=3),
            "data_offsets": st.lists(st.integers(-1, 16) | st.integers(), max_size=3),
        }) | st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2) | st.none(),
        max_size=3,
    ),
    data=st.binary(max_size=16),
)  # fmt: skip
def test_invented_headers_never_do_anything_but_teach(tmp_path, header, data):
    only_teaches(write(tmp_path / "x", header, data), (tmp_path / "x").read_bytes())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["dict", "ordered", "tuple", "int", "float", "tensor", "array", "scalar", "x"]),
            inner,
            max_size=2,
        )
    ),
    max_leaves=8,
)


@settings(same_folder, max_examples=300)
@given(state=st.dictionaries(st.text(max_size=2), json_values, max_size=2))
def test_invented_states_never_do_anything_but_teach(tmp_path, state):
    path = tmp_path / "x"
    mg.save(path, {"x": np.ones(1)}, {CHECKPOINT_KEY: json.dumps({"version": 1, "state": state})})
    only_teaches(path, path.read_bytes())


# ---------------------------------------------------------------------------------------------------- checkpoints

keys = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2).map(tuple),
    max_leaves=3,
)
states = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | arrays
    | arrays.map(lambda a: a.reshape(-1)[:1].sum())
    | arrays.map(mg.Tensor),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=10,
)


@settings(same_folder, max_examples=300)
@given(parts=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), states, max_size=3))
def test_checkpoints_come_back_exactly(tmp_path, parts):
    path = tmp_path / "x.safetensors"
    mg.save_checkpoint(path, **parts)
    assert same(parts, mg.load_checkpoint(path))


def test_the_comparison_of_the_test_above_can_fail():
    one = np.ones(1)
    for a, b in [
        (1, 1.0), (1, True), ((1,), [1]), (0.0, -0.0), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), (np.float32(1), 1.0),
        (one, np.ones((1, 1))), (one, mg.tensor(one)), ({}, OrderedDict()), ({1: 0}, {"1": 0}),
    ]:  # fmt: skip
        assert not same(a, b)


def test_exact_numbers_and_awkward_keys(tmp_path):
    path = tmp_path / "x.safetensors"
    state = {
        "floats": [0.1, 5e-324, -0.0, 1.7976931348623157e308, math.inf, -math.inf],
        "ints": [2**53, -(2**53) - 1, 2**200, 10**5000],
        "a.b/c[0]\"'\n": {0: "zero", "0": "text", None: True, (1, "x"): np.array(3.0)},
        1.5: np.zeros((0, 3)),
        "\ud800": [mg.tensor(1.0)],
    }
    mg.save_checkpoint(path, state=state)
    assert same({"state": state}, mg.load_checkpoint(path))


def test_the_same_state_gives_the_same_bytes(tmp_path):
    for name in "ab":
        mg.save_checkpoint(tmp_path / name, model={f"w{i}": np.arange(i) for i in range(9)}, step=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tensors_of_a_checkpoint_are_named_by_their_place(tmp_path):
    mg.save_checkpoint(tmp_path / "x", model={"0.weight": mg.tensor([1.0])}, moments=[np.ones(2), (np.ones(3),)])
    assert sorted(mg.load(tmp_path / "x")) == ['model["0.weight"]', "moments[0]", "moments[1][0]"]


def test_variables_come_back_as_tensors(tmp_path):
    mg.save_checkpoint(tmp_path / "x", v=mg.Variable([1.0, 2.0]))
    assert same(mg.load_checkpoint(tmp_path / "x"), {"v": mg.tensor([1.0, 2.0])})


class Stateful:
    def state_dict(self):
        return {}


def endless():
    loop = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"a": [1, {2}]}, r'run\["a"\]\[1\] cannot be stored(.|\n)*a set'),
        ({"f": len}, r'run\["f"\] cannot be stored'),
        ([Stateful()], r"run\[0\] cannot be stored(.|\n)*pass run\[0\]\.state_dict\(\)"),
        ({"k": {b"key": 1}}, r"the key of run\[\"k\"\]\[b'key'\](.|\n)*a bytes"),
        ({"k": np.array([1j])}, r'the dtype of run\["k"\](.|\n)*complex128'),
        ({"k": np.str_("x")}, r'the dtype of run\["k"\]'),
        (endless(), "too deeply(.|\n)*contains itself"),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_path(old, part, message):
    path, intact = old
    with pytest.raises(CheckpointError, match=message):
        mg.save_checkpoint(path, run=part)
    intact()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version":2,"state":{}}', "version 2(.|\n)*newer"),
        ('{"version":0,"state":{}}', "version 0"),
        ('{"version":"1","state":{}}', "damaged"),
        ('{"state":{}}', "damaged"),
        ("[]", "damaged"),
        ("{", "damaged"),
        ('{"version":1,"state":{"a":{"tensor":"missing"}}}', "KeyError: 'missing'"),
        ('{"version":1,"state":{"a":{"pickle":"gASVBgAAAAAAAACMAmlkLg=="}}}', "unknown kind 'pickle'"),
        ('{"version":1,"state":{"a":{"dict":[["k",1],["k",2]]}}}', "twice the same"),
        ('{"version":1,"state":{"a":{"dict":[[[],1]]}}}', "unhashable"),
        ('{"version":1,"state":{"a":1,"a":2}}', "DuplicateName"),
        ('{"version":1,"state":{"a":' + "[" * 90_000 + "]" * 90_000 + "}}", "damaged"),
        ('{"version":1,"state":{"a":' + "[" * 200 + "]" * 200 + "}}", "nested too deeply"),
    ],
)
def test_damaged_states_are_refused(tmp_path, text, message):
    path = tmp_path / "x"
    mg.save(path, {"x": np.ones(1)}, {CHECKPOINT_KEY: text})
    with pytest.raises(CheckpointError, match=message):
        mg.load_checkpoint(path)


def test_a_file_of_tensors_is_no_checkpoint(tmp_path):
    mg.save(tmp_path / "x", {"x": np.ones(1)})
    with pytest.raises(CheckpointError, match=r"mg\.load\(path\)"):
        mg.load_checkpoint(tmp_path / "x")


def test_too_much_text_is_refused_before_writing(tmp_path):
    with pytest.raises(CheckpointError, match="store long lists of numbers as tensors"):
        mg.save_checkpoint(tmp_path / "x", log="x" * MAX_HEADER)
    assert os.listdir(tmp_path) == []


def test_without_the_package_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ModuleNotFoundError, match="pip install safetensors"):
        mg.save(tmp_path / "x", {})
