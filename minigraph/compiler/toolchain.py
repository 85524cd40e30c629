"""From C text to a loaded library."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile

_dir = os.path.join(tempfile.gettempdir(), "mgc")


def find_compiler() -> str | None:
    return shutil.which("gcc")


def build(source: str, *, openmp: bool = False, sanitize: bool = False) -> ctypes.CDLL:
    h = hashlib.sha1((source + str(openmp)).encode()).hexdigest()[:16]
    os.makedirs(_dir, exist_ok=True)
    c, so = f"{_dir}/{h}.c", f"{_dir}/{h}.so"
    if not os.path.exists(so):
        with open(c, "w") as f:
            f.write(source)
        subprocess.run(
            [
                "gcc",
                "-O3",
                "-march=native",
                "-mprefer-vector-width=512",
                "-fopenmp" if openmp else "-fopenmp-simd",
                "-ffp-contract=off",
                "-fno-math-errno",
                "-fno-trapping-math",
                "-fwrapv",
                "-shared",
                "-fPIC",
                "-w",
                c,
                "-o",
                so,
                "-lm",
            ],
            check=True,
        )
    return ctypes.CDLL(so)
