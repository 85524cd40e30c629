"""Saving and loading by the safetensors format: no pickle, so that loading a file never runs code from it.

`save` and `load` move a flat dict of tensors, the form that other libraries read and write as well. `save_checkpoint`
and `load_checkpoint` move whatever a training run needs to go on exactly where it stopped: nested dicts and lists of
tensors, numbers and strings, as `state_dict()` of models, optimisers, generators and loaders give them. Their tensors
become tensors of the file, named by their place (`model["0.weight"]`); all else becomes one line of JSON beside them.

The format is: 8 bytes with the length of the header, the header (JSON: name -> dtype, shape, place), the data. The
`safetensors` package reads and writes it, and checks that the places tile the data exactly. What we add is what a
person needs when a file is not what it should be: the size of the header is compared with the size of the file before
anything is read, well-known other formats are recognised, and every refusal says what was found and what to do.

Names in a file are dictionary keys and never become paths. Writing is atomic, see `atomic.py`.

Source: https://github.com/huggingface/safetensors (format), read and written by version 0.8 of the package.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import CheckpointError
from ..tensor import Operators, Tensor
from .atomic import replacing

__all__ = ["load", "load_checkpoint", "load_metadata", "save", "save_checkpoint"]

DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}
STORABLE = {np.dtype(dtype) for dtype in DTYPES.values()}
MAX_HEADER = 16_000_000  # bytes; enough for 100,000 tensors, and little enough to parse without fear
MAX_DEPTH = 100  # of nested containers in a checkpoint
CHECKPOINT_VERSION = 1
CHECKPOINT_KEY = "minigraph.checkpoint"

FOREIGN = (  # (first bytes, what it is, remedy)
    (
        b"PK\x03\x04",
        "a zip archive, as torch.save and numpy.savez write them",
        (
            "NumPy's .npz: mg.save(path, dict(np.load(path))); "
            "PyTorch's .pt: in PyTorch, safetensors.torch.save_file(state_dict, path)"
        ),
    ),
    (b"\x93NUMPY", "a NumPy .npy file", 'mg.save(path, {"x": np.load(path)})'),
    (b"\x89HDF", "an HDF5 file", "read it with h5py and save the arrays with mg.save"),
    (b"GGUF", "a GGUF file", "look for the model's .safetensors files"),
    (b"\x1f\x8b", "a gzip-compressed file", "decompress it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the contents with: git lfs pull"),
    (b"<!DOCTYPE", "a web page", "download the file itself, not the page about it"),
    (b"<html", "a web page", "download the file itself, not the page about it"),
)
PICKLE = re.compile(rb"\x80[\x02-\x05]")


# ---------------------------------------------------------------------------------------------------- flat dicts


def save(path: str | os.PathLike[str], tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, atomically: whatever goes wrong, a file that was there stays as it was.

    Args:
        path: the file, by custom with the suffix `.safetensors`.
        tensors: name -> `Tensor`, `Variable` or NumPy array, of any shape; bool, integers, float16/32/64.
        metadata: strings to store beside them, read back by `load_metadata`.

    Raises:
        CheckpointError: something that the format cannot hold, or the file cannot be written (full disk, no such
            folder); the message gives bytes needed and free.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> mg.save(path, {"w": mg.tensor([1.0, 2.0]), "n": np.array(3)}, {"made by": "me"})
    >>> mg.load(path)["w"]
    tensor([1., 2.], dtype=float32)
    >>> mg.load_metadata(path)
    {'made by': 'me'}
    """
    if not isinstance(tensors, Mapping):
        raise CheckpointError("save: tensors by name", expected='a dict such as {"w": tensor}',
                              actual=f"a {type(tensors).__name__}", remedy='save(path, {"x": tensors})')  # fmt: skip
    arrays = {}
    for name, x in tensors.items():
        if type(name) is not str or name == "__metadata__" or not _is_unicode(name):
            raise CheckpointError(
                "save: a name that the format cannot hold",
                expected='a string other than "__metadata__"',
                actual=repr(name),
                remedy="rename the tensor, or use mg.save_checkpoint",
            )
        if not isinstance(x, Operators | np.ndarray | np.generic):
            raise CheckpointError(
                f"save: {name!r} is not a tensor",
                expected="a Tensor, Variable or NumPy array",
                actual=f"a {type(x).__name__}",
                remedy=f'use mg.tensor(...), or mg.save_checkpoint(path, state={{"{name}": ...}}) for nested state',
            )
        arrays[name] = _storable(x, "save", repr(name))
    for key, text in (metadata or {}).items():
        if type(key) is not str or type(text) is not str or not _is_unicode(key) or not _is_unicode(text):
            raise CheckpointError("save: metadata are strings by strings", expected="dict[str, str]",
                                  actual=f"{key!r}: {text!r}", remedy="convert with str() or json.dumps()")  # fmt: skip
    _write(path, arrays, dict(metadata or {}), "save")


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file, written here or by another library, to the CPU.

    Args:
        path: the file.

    Returns:
        name -> `Tensor`, sorted by name, with shapes and dtypes as stored.

    Raises:
        CheckpointError: the file is truncated, damaged or something else; the message says which.
        FileNotFoundError, PermissionError: as from `open`.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> mg.save(path, {"w": mg.tensor([1.0, 2.0])})
    >>> mg.load(path)
    {'w': tensor([1., 2.], dtype=float32)}
    """
    with _opened(path, "load") as (file, header):
        return {name: Tensor(array) for name, array in _read(file, header, path, "load").items()}


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The strings that were given to `save` as `metadata`; the tensors are not read. Errors as for `load`.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> mg.save(path, {"w": mg.tensor([1.0])}, {"made by": "me"})
    >>> mg.load_metadata(path)
    {'made by': 'me'}
    """
    with _opened(path, "load_metadata") as (file, _):
        return dict(file.metadata() or {})


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _storable(x: Any, what: str, where: str) -> np.ndarray:
    """A dense little-endian array of a dtype that the format and minigraph share."""
    array: np.ndarray = np.require(x.numpy() if isinstance(x, Operators) else x, requirements="C")
    dtype = array.dtype.newbyteorder("=")
    if dtype not in STORABLE:
        raise CheckpointError(
            f"{what}: the dtype of {where} cannot be stored",
            expected="bool, integers, float16, float32, float64",
            actual=f"dtype {array.dtype}",
            remedy=_dtype_remedy(array.dtype),
        )
    return array.astype(dtype, copy=False)


def _dtype_remedy(dtype: np.dtype) -> str:
    if dtype.kind == "c":
        return "store .real and .imag"
    if dtype.kind in "OUSMm":
        return "convert to numbers first; strings and nested lists go into mg.save_checkpoint as they are"
    return "convert first: x.astype(np.float32)"


def _import_safetensors() -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "minigraph saves and loads with the safetensors package: pip install safetensors"
        ) from None
    return safetensors


def _write(path: str | os.PathLike[str], arrays: dict[str, np.ndarray], metadata: dict[str, str], what: str) -> None:
    safetensors = _import_safetensors()
    header = sum(len(json.dumps(text)) for item in metadata.items() for text in item) + sum(
        len(n) + 100 for n in arrays
    )
    if header > MAX_HEADER:
        raise CheckpointError(
            f"{what}: too much that is not a tensor",
            expected=f"at most {MAX_HEADER:,} bytes of names and text",
            actual=f"{header:,} bytes",
            remedy="store long lists of numbers as tensors",
        )
    needed = sum(array.nbytes for array in arrays.values()) + header
    with replacing(path, what, lambda: needed) as temporary:
        try:
            safetensors.numpy.save_file(arrays, temporary, metadata or None)
        except safetensors.SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str], what: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The open file (a `safetensors.safe_open`) and its header, after every check that needs no data."""
    safetensors = _import_safetensors()
    header = _header(path, what)
    try:
        # pread, not mmap: a file that shrinks while it is mapped would kill the process.
        with safetensors.safe_open(os.fspath(path), framework="np", backend="pread") as file:
            yield file, header
    except safetensors.SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise _damaged(path, what, "a header that describes the data exactly", reason) from None


def _header(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """The header as Python objects: there, of a sane size, without duplicate names, and within the file."""
    with open(_ordinary_file(path, what), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise _damaged(path, what, "at least 8 bytes", f"{size} bytes")
        start = file.read(32)
        if start[8:9] not in (b"{", b""):
            raise _foreign(path, what, *_recognise(start))
        length = struct.unpack("<Q", start[:8])[0]
        if length > MAX_HEADER:
            raise _damaged(path, what, f"a header of at most {MAX_HEADER:,} bytes", f"one that claims {length:,} bytes")
        if length > size - 8:
            raise _damaged(path, what, f"{length + 8:,} bytes or more, by its header", f"{size:,} bytes: truncated")
        file.seek(8)
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_without_duplicates)
    except _DuplicateName as error:
        raise _damaged(path, what, "every name once", f"the name {error.args[0]!r} twice in the header") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, what, "a header in JSON", f"{type(error).__name__}: {error}") from None
    if type(header) is not dict:
        raise _damaged(path, what, "a header that is a JSON object", f"a JSON {type(header).__name__}")
    ends = [info["data_offsets"][1] for info in header.values() if _has_offsets(info)]
    if ends and max(ends) > size - 8 - length:
        raise _damaged(path, what, f"{max(ends) + 8 + length:,} bytes, by its header",
                       f"{size:,} bytes: truncated, or the header is wrong")  # fmt: skip
    return header


def _recognise(start: bytes) -> tuple[str, str]:
    """What a file is that starts like this and is no safetensors file, and what to do with it."""
    for magic, kind, remedy in FOREIGN:
        if start.startswith(magic):
            return kind, remedy
    if PICKLE.match(start):
        return ("a pickle, which could run any program when loaded",
                "in a program that you trust, unpickle it there and save the arrays with mg.save")  # fmt: skip
    return f"a file that starts with {start[:9]!r}", "use the program that wrote it to convert it to safetensors"


def _ordinary_file(path: str | os.PathLike[str], what: str) -> str | os.PathLike[str]:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise CheckpointError(
            f"{what}: {os.fspath(path)!r} is {kind}",
            expected="a file",
            actual=kind,
            remedy="give the path of the file in it" if stat.S_ISDIR(mode) else "copy it to a file first",
        )
    return path


class _DuplicateName(ValueError):
    pass


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object as a dict; where a name stands twice, readers disagree on which counts, so neither does here."""
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateName(next(name for name in names if names.count(name) > 1))
    return result


def _has_offsets(info: Any) -> bool:
    offsets = info.get("data_offsets") if type(info) is dict else None
    return type(offsets) is list and len(offsets) == 2 and type(offsets[1]) is int


def _read(file: Any, header: dict[str, Any], path: str | os.PathLike[str], what: str) -> dict[str, np.ndarray]:
    """All arrays, in memory of their own."""
    for name in sorted(file.keys()):  # before any data are read
        dtype = header[name]["dtype"]
        if dtype not in DTYPES:
            raise CheckpointError(
                f"{what}: tensor {name!r} of {os.fspath(path)!r} has a dtype that minigraph does not have",
                expected=f"one of {', '.join(DTYPES)}",
                actual=dtype,
                remedy=f"convert it where it was made, e.g. in PyTorch: state[{name!r}].float()",
            )
    arrays = {}
    for name in sorted(file.keys()):
        try:
            array = file.get_tensor(name)
        except ValueError as error:  # more axes, or longer ones, than NumPy has
            raise _damaged(path, what, f"a possible shape for {name!r}", f"{error}") from None
        if array.dtype == bool and (array.view(np.uint8) > 1).any():
            raise _damaged(path, what, f"bytes 0 and 1 for the bool tensor {name!r}", "other bytes")
        arrays[name] = array
    return arrays


def _foreign(path: str | os.PathLike[str], what: str, kind: str, remedy: str) -> CheckpointError:
    return CheckpointError(
        f"{what}: {os.fspath(path)!r} is not a safetensors file",
        expected="a file written by mg.save or safetensors",
        actual=kind,
        remedy=remedy,
    )


def _damaged(path: str | os.PathLike[str], what: str, expected: str, actual: str) -> CheckpointError:
    actual = actual if len(actual) <= 300 else actual[:297] + "..."
    return CheckpointError(
        f"{what}: {os.fspath(path)!r} is damaged, or no safetensors file",
        expected=expected,
        actual=actual,
        remedy="copy or download the file again, or use an earlier checkpoint",
    )


# --------------------------------------------------------------------------------------------------- checkpoints


def save_checkpoint(path: str | os.PathLike[str], /, **parts: Any) -> None:
    """Write the whole state of a training run to one file, atomically (see `save`).

    Args:
        path: the file, by custom with the suffix `.safetensors`. `mg.load` reads the tensors of it as well.
        parts: any nesting of dict (keys: strings, numbers, bools, None, tuples of these), OrderedDict, list and tuple
            around tensors, variables, NumPy arrays and scalars, int, float, bool, str and None: what `state_dict()`
            methods return.

    Raises:
        CheckpointError: something else is among the parts (the message has its path), or the file cannot be written.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> mg.save_checkpoint(path, model={"w": mg.tensor([1.0])}, step=7, history=[(0, 2.5), (1, 1.25)])
    >>> mg.load_checkpoint(path)
    {'model': {'w': tensor([1.], dtype=float32)}, 'step': 7, 'history': [(0, 2.5), (1, 1.25)]}
    """
    arrays: dict[str, np.ndarray] = {}
    state = {name: _encode(part, name, 0, arrays) for name, part in parts.items()}
    text = json.dumps({"version": CHECKPOINT_VERSION, "state": state}, separators=(",", ":"), allow_nan=False)
    _write(path, arrays, {CHECKPOINT_KEY: text}, "save_checkpoint")


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote: the same nesting, numbers to the last bit, dict order included.

    Args:
        path: the file.

    Returns:
        name of the part -> part. Tensors and variables come back as tensors on the CPU, NumPy arrays and scalars as
        themselves.

    Raises:
        CheckpointError: the file is damaged, no checkpoint, or of a version that this minigraph does not know.
        FileNotFoundError, PermissionError: as from `open`.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> mg.save_checkpoint(path, model={"w": mg.tensor([1.0])}, epoch=3, best=0.1)
    >>> mg.load_checkpoint(path)
    {'model': {'w': tensor([1.], dtype=float32)}, 'epoch': 3, 'best': 0.1}
    """
    what = "load_checkpoint"
    with _opened(path, what) as (file, header):
        text = (file.metadata() or {}).get(CHECKPOINT_KEY)
        if text is None:
            raise CheckpointError(
                f"{what}: {os.fspath(path)!r} holds tensors but no checkpoint",
                expected="a file written by mg.save_checkpoint",
                actual="a safetensors file without a minigraph state",
                remedy="read its tensors with mg.load(path)",
            )
        try:
            content = json.loads(text, object_pairs_hook=_without_duplicates)
            version, state = content["version"], content["state"]
            if type(version) is not int or type(state) is not dict:
                raise ValueError("version or state is missing")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(path, what, "a state in JSON", f"{type(error).__name__}: {error}") from None
        if version != CHECKPOINT_VERSION:
            raise CheckpointError(
                f"{what}: {os.fspath(path)!r} has a version that this minigraph does not know",
                expected=f"version {CHECKPOINT_VERSION}",
                actual=f"version {version}",
                remedy="use the minigraph that wrote it, or a newer one"
                if version > CHECKPOINT_VERSION
                else "copy the file again: there never was such a version",
            )
        arrays = _read(file, header, path, what)
    try:
        return {name: _decode(code, arrays, 0) for name, code in state.items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise _damaged(
            path, what, "a state that refers to the file's tensors", f"{type(error).__name__}: {error}"
        ) from None


# In JSON, null, true, 1, "text" and [..] mean themselves; 1.5 is a float (Python writes the shortest digits that read
# back as the same float). Whatever JSON cannot say exactly is an object with one key, the kind:
#   {"dict": [[key, value], ...]}, {"ordered": ...}, {"tuple": [...]}, {"int": "hex"}, {"float": "nan"},
#   {"tensor": name}, {"array": name}, {"scalar": name}.
SAFE_INT = 2**53  # integers below it survive readers that make floats of them


def _encode(x: Any, path: str, depth: int, arrays: dict[str, np.ndarray]) -> Any:
    """`x` as JSON; arrays are put into `arrays` under their path."""
    kind = type(x)
    if x is None or kind is bool or kind is str:
        return x
    if kind is int:
        return x if -SAFE_INT < x < SAFE_INT else {"int": hex(x)}
    if kind is float:
        return x if x - x == 0 else {"float": repr(x)}
    if depth >= MAX_DEPTH:
        raise CheckpointError(
            f"save_checkpoint: {path[:100]}... is nested too deeply",
            expected=f"at most {MAX_DEPTH} containers deep",
            actual="more; or a container that contains itself",
            remedy="store a flatter copy",
        )
    if kind is list:
        return [_encode(v, f"{path}[{i}]", depth + 1, arrays) for i, v in enumerate(x)]
    if kind is tuple:
        return {"tuple": [_encode(v, f"{path}[{i}]", depth + 1, arrays) for i, v in enumerate(x)]}
    if kind is dict or kind is OrderedDict:
        pairs = []
        for key, value in x.items():
            where = f"{path}[{json.dumps(key, ensure_ascii=False) if type(key) is str else repr(key)}]"
            if not _is_plain_key(key):
                raise CheckpointError(
                    f"save_checkpoint: the key of {where} cannot be stored",
                    expected="a string, number, bool, None or tuple of these",
                    actual=f"a {type(key).__name__}",
                    remedy="use a name as the key",
                )
            pairs.append([_encode(key, where, depth + 1, arrays), _encode(value, where, depth + 1, arrays)])
        return {"dict" if kind is dict else "ordered": pairs}
    if isinstance(x, Operators | np.ndarray | np.generic):
        name = path if _is_unicode(path) else ascii(path)
        while name in arrays:  # two keys that print alike
            name += "'"
        arrays[name] = _storable(x, "save_checkpoint", path)
        return {"tensor" if isinstance(x, Operators) else "array" if isinstance(x, np.ndarray) else "scalar": name}
    raise CheckpointError(
        f"save_checkpoint: {path} cannot be stored",
        expected="tensors, NumPy arrays, numbers, strings, None in dicts, lists and tuples",
        actual=f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__}",
        remedy=f"pass {path}.state_dict()"
        if hasattr(x, "state_dict")
        else "store what it is made of, and make it again after loading",
    )


def _is_plain_key(key: Any) -> bool:
    if type(key) is tuple:
        return all(_is_plain_key(k) for k in key)
    return key is None or type(key) in (str, int, float, bool)


def _decode(code: Any, arrays: dict[str, np.ndarray], depth: int) -> Any:
    """The inverse of `_encode`; raises a plain exception at anything that `_encode` does not write."""
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    if type(code) is list:
        return [_decode(v, arrays, depth + 1) for v in code]
    if type(code) is not dict:
        return code
    ((kind, content),) = code.items()
    if kind == "tuple":
        return tuple([_decode(v, arrays, depth + 1) for v in content])
    if kind in ("dict", "ordered"):
        pairs = [(_decode(key, arrays, depth + 1), _decode(value, arrays, depth + 1)) for key, value in content]
        result = dict(pairs) if kind == "dict" else OrderedDict(pairs)
        if len(result) < len(pairs) or not all(_is_plain_key(key) for key in result):
            raise ValueError("keys that are no keys, or twice the same")
        return result
    if kind == "int":
        return int(content, 16)
    if kind == "float" and content in ("nan", "inf", "-inf"):
        return float(content)
    if kind == "tensor":
        return Tensor(arrays[content])
    if kind == "array":
        return arrays[content]
    if kind == "scalar":
        return arrays[content][()]
    raise ValueError(f"unknown kind {kind!r}")
