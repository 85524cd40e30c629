"""Matrix products for native code: the BLAS that NumPy brought along, called by its address.

NumPy's wheels contain OpenBLAS, and it is loaded already; a second copy would mean a second pool of threads. Other
builds of NumPy (Accelerate, MKL, none) keep theirs out of reach: then products are left to `numpy.dot`.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

PATTERNS = ("numpy.libs/*openblas*", "numpy/.dylibs/*openblas*", "scipy_openblas64/lib/*openblas*")


class Blas(NamedTuple):
    """Addresses of `cblas_sgemm` and `cblas_dgemm` with 64-bit sizes, of the functions that tell and set the number
    of threads, and what the library calls itself."""

    sgemm: int
    dgemm: int
    threads: int
    set_threads: int
    name: str


@cache
def find() -> Blas | None:
    """The BLAS of this process, or None where there is none that can be called."""
    np.dot(np.ones((2, 2), "f4"), np.ones((2, 2), "f4"))  # loads it, and lets it look at the processor
    home = Path(np.__file__).parent.parent
    for pattern in PATTERNS:
        for path in sorted(home.glob(pattern)):
            try:
                library = ctypes.CDLL(str(path))
                functions = [
                    library.scipy_cblas_sgemm64_,
                    library.scipy_cblas_dgemm64_,
                    library.scipy_openblas_get_num_threads64_,
                    library.scipy_openblas_set_num_threads64_,
                ]
                name = library.scipy_openblas_get_config64_
            except (OSError, AttributeError):
                continue
            name.restype = ctypes.c_char_p
            sgemm, dgemm, get, put = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions)
            return Blas(sgemm, dgemm, get, put, name().decode())
    return None
