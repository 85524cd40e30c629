"""CuPy: arrays on an NVIDIA GPU. Imported when a CUDA device is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DeviceError


def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        raise DeviceError(
            "device: CuPy is not installed" if missing else "device: CuPy is installed but cannot be loaded",
            actual=_first_line(error),
            remedy='pip install "minigraph[cuda13]" (for CUDA 13), or use device("cpu")',
        ) from None
    return cupy


def _first_line(error: Exception) -> str:
    """The first line of words of an error; CuPy's fill a screen and begin with a rule."""
    return next((line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))), repr(error))


def check(index: int) -> None:
    """Raise a DeviceError unless there is a GPU with this number."""
    cupy = _cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(
            "device: this machine has no usable NVIDIA GPU", actual=_first_line(error), remedy='use device("cpu")'
        ) from None
    if count == 0:
        raise DeviceError("device: this machine has no NVIDIA GPU", remedy='use device("cpu")')
    if index >= count:
        raise DeviceError(
            f"device: there is no GPU number {index}", expected=f"0 to {count - 1}", actual=f"cuda:{index}"
        )


def make_backend() -> Any:
    """The backend record."""
    cupy = _cupy()
    check(0)
    from . import HERE, Backend, Device

    def from_numpy(array: np.ndarray, device: Any) -> Any:
        with cupy.cuda.Device(device.index):
            return cupy.array(array)

    def synchronize(device: Any) -> None:
        with cupy.cuda.Device(device.index):
            cupy.cuda.get_current_stream().synchronize()

    def current(device: Any) -> Any:
        return HERE if cupy.cuda.runtime.getDevice() == device.index else cupy.cuda.Device(device.index)

    return Backend("cuda", cupy, (cupy.ndarray,), lambda a: Device("cuda", a.device.id), cupy.asnumpy, from_numpy,
                   synchronize, current)  # fmt: skip
