"""From C text to a loaded library: which compiler, which flags, and a cache on disk.

What has been compiled once is kept, by content: the name of a library is the hash of its text, of the compiler and its
version, of the flags and of the processor. The directory belongs to the user alone, and is not used if anybody else
could write to it, because what lies there is executed. Files appear under their final name only when they are complete,
so any number of processes may compile the same text at one time. Where nothing can be written at home, a private
directory serves for the life of the process.

The flags never change the value of an expression. `-ffp-contract=off` keeps multiplication and addition two roundings,
as NumPy has them; `-fno-math-errno` and `-fno-trapping-math` give up only the error number and the flags of exceptions;
`-fwrapv` makes integers wrap around, as NumPy's do. There is no -ffast-math.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ..errors import CompilerError

FLAGS = (
    "-O3", "-std=gnu11", "-fPIC", "-shared", "-w", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
    "-fwrapv",
)  # fmt: skip
TRIED = ("-mprefer-vector-width=512", "-fopenmp-simd")  # taken if the compiler accepts them
TIME_LIMIT = 60  # seconds
CACHE_LIMIT = 512 << 20  # bytes: beyond, the oldest libraries are removed


class Compiler(NamedTuple):
    """A C compiler: how it is called, what it calls itself, and its flags for this processor, without threads and with
    them."""

    command: tuple[str, ...]
    version: str
    flags: tuple[str, ...]
    openmp: tuple[str, ...]


def candidates() -> list[tuple[str, ...]]:
    """Commands that may be C compilers, the user's own choice first."""
    found: list[tuple[str, ...]] = []
    if os.environ.get("CC"):
        found.append(tuple(shlex.split(os.environ["CC"])))
    found += [(name,) for name in ("cc", "gcc", "clang") if shutil.which(name)]
    if find_spec("ziglang") is not None:
        found.append((sys.executable, "-m", "ziglang", "cc"))
    return found


def find_compiler() -> Compiler | None:
    """The compiler to use: $CC, cc, gcc, clang, or that of the pip package `ziglang`; None if there is none.

    It is looked for once for each value of $CC and $PATH. On Windows there is none for us: NumPy does the work.

    >>> compiler = mg.compiler.find_compiler()
    >>> compiler is None or "-O3" in compiler.flags
    True
    """
    if sys.platform == "win32":
        return None
    return _find(os.environ.get("CC"), os.environ.get("PATH"))


@cache
def _find(_cc: str | None, _path: str | None) -> Compiler | None:
    for command in candidates():
        note = known(command)
        if note is not None and trusted(note):
            version, *flags = json.loads(note.read_text(encoding="utf-8"))
            return Compiler(command, version, *map(tuple, flags))
        try:
            done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=TIME_LIMIT)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0 and done.stdout:
            compiler = tuned(Compiler(command, done.stdout.splitlines()[0], FLAGS, ()))
            if note is not None and compiler is not None:
                write_atomically(note, json.dumps(compiler[1:]))
            return compiler
    return None


def known(command: tuple[str, ...]) -> Path | None:
    """Where it is noted what a compiler accepts: asking takes longer than loading a library. The name changes with the
    compiler's file, this processor, and the flags in question."""
    path = shutil.which(command[0])
    if path is None:
        return None
    info = os.stat(path)
    what = [os.path.realpath(path), *command[1:], info.st_mtime_ns, info.st_size, processor(), FLAGS, TRIED]
    if "ziglang" in command:
        from importlib.metadata import version  # takes long to import

        what.append(version("ziglang"))
    return cache_directory() / f"compiler-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}.json"


def write_atomically(path: Path, text: str) -> None:
    """Write a small file of the cache: whole, or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="build-") as folder:
        (Path(folder) / path.name).write_text(text, encoding="utf-8")
        (Path(folder) / path.name).chmod(0o600)
        os.replace(Path(folder) / path.name, path)


def tuned(compiler: Compiler) -> Compiler | None:
    """The compiler with what it accepts of the flags for this processor and for threads; None if it cannot compile."""
    zig = "ziglang" in compiler.command
    native = "-mcpu=native" if zig else "-march=native"
    with tempfile.TemporaryDirectory(prefix="minigraph-") as folder:

        def accepts(*flags: str) -> bool:
            text = "#ifdef _OPENMP\n#include <omp.h>\n#endif\nint f(void) { return 0; }\n"
            try:
                run_compiler(compiler, [*FLAGS, *flags], text, Path(folder), "probe")
            except CompilerError:
                return False
            return True

        if not accepts():
            return None
        flags = [flag for flag in (native, *TRIED) if accepts(flag)]
        openmp = ("-fopenmp",) if not zig and accepts("-fopenmp") else ()
    return compiler._replace(flags=(*FLAGS, *flags), openmp=openmp)


def run_compiler(compiler: Compiler, flags: list[str], source: str, folder: Path, name: str) -> Path:
    """Compile a text into `folder`; the path of the library.

    Raises:
        CompilerError: the compiler refuses the text, or takes more than a minute.
    """
    text, library = folder / f"{name}.c", folder / f"{name}.so"
    text.write_text(source, encoding="utf-8")
    command = [*compiler.command, *flags, str(text), "-o", str(library), "-lm"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,  # its own group of processes, which ends as a whole
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=TIME_LIMIT)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CompilerError("the C compiler did not finish", expected=f"within {TIME_LIMIT} seconds") from None
            raise
    if process.returncode:
        raise CompilerError("the C compiler refuses the generated code", actual=first_error(output, source),
                            remedy='run it on NumPy: mg.compile(..., backend="numpy")')  # fmt: skip
    return library


def first_error(output: str, source: str) -> str:
    """The first error message of a compiler, with the line that it points to."""
    found = re.search(r"^[^\n:]*:(\d+):(?:\d+:)? (?:fatal )?error: ([^\n]*)", output, re.MULTILINE)
    if found is None:
        return output.strip()[:500] or "no message"
    lines, number = source.splitlines(), int(found[1])
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    return f"{found[2]}\nline {number}: {line}"


# ---------------------------------------------------------------------------------------------------------- the cache


@cache
def processor() -> str:
    """What tells processors apart for which `-march=native` gives different code."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "model name", "model\t", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def cache_directory() -> Path:
    """Where libraries are kept: $MINIGRAPH_CACHE, or the user's cache directory; or one for this process only."""
    chosen = os.environ.get("MINIGRAPH_CACHE")
    if chosen:
        return usable(Path(chosen)) or private_directory()
    if sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return usable(home / "minigraph") or private_directory()


def usable(path: Path) -> Path | None:
    """The directory, made if it is missing, if only its owner, who is us, can write to it; else None."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = path.lstat()
        ours = stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o022
        return path if ours and os.access(path, os.W_OK | os.X_OK) else None
    except OSError:
        return None


@cache
def private_directory() -> Path:
    """A directory of this process, removed when it ends."""
    path = tempfile.mkdtemp(prefix="minigraph-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Path(path)


def trusted(path: Path) -> bool:
    """Whether a file is ours, and nobody else can have written to it."""
    try:
        info = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o022


class Library(ctypes.CDLL):
    """A loaded library, and how it came to be: whether it was in the cache, and the seconds that it took."""

    cached: bool
    seconds: float


SPINNING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}  # of GCC's OpenMP, and of LLVM's


@contextmanager
def patient() -> Iterator[None]:
    """Let OpenMP's threads wait actively for some ten microseconds only, then sleep; they read how long when loaded.

    Between two loops of a step it is not longer. On a machine that has other things to do as well, a thread that keeps
    its processor while it waits for one that has none makes the step ten times slower. What the user has set stands.
    """
    mine = {k: v for k, v in SPINNING.items() if k not in os.environ and "OMP_WAIT_POLICY" not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for k in mine:
            del os.environ[k]


def loaded(path: Path, cached: bool, start: float) -> Library:
    with patient():
        library = Library(str(path))
    library.cached, library.seconds = cached, time.perf_counter() - start
    return library


def build(source: str, *, openmp: bool = False, sanitize: bool = False) -> Library:
    """Compile C text, unless that has been done before, and load it.

    Args:
        openmp: let it use several threads, if the compiler can.
        sanitize: with checks of addresses and undefined behaviour, for tests.

    Raises:
        CompilerError: there is no compiler, or it refuses the text.

    >>> from minigraph.compiler import toolchain
    >>> if toolchain.find_compiler():
    ...     assert toolchain.build("int twice(int x) { return 2 * x; }").twice(21) == 42
    """
    start = time.perf_counter()
    compiler = find_compiler()
    if compiler is None:
        raise CompilerError("no C compiler was found", remedy="install gcc or clang, or pip install ziglang")
    flags = [*compiler.flags, *(compiler.openmp if openmp else ())]
    if sanitize:
        flags += ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    what = "\0".join([source, *compiler.command, compiler.version, *flags, processor()])
    name = hashlib.sha256(what.encode()).hexdigest()[:32]
    home = cache_directory()
    library = home / f"{name}.so"
    if trusted(library):
        try:
            found = loaded(library, True, start)
            os.utime(library)
            return found
        except OSError:  # cut short, or for another system: build it again
            pass
    with tempfile.TemporaryDirectory(dir=home, prefix="build-") as folder:
        made = run_compiler(compiler, flags, source, Path(folder), name)
        made.chmod(0o700)
        os.replace(Path(folder) / f"{name}.c", home / f"{name}.c")
        os.replace(made, library)
    shrink(home, CACHE_LIMIT)
    return loaded(library, False, start)


def shrink(home: Path, limit: int) -> None:
    """Remove the libraries that have not been used for longest, until at most `limit` bytes are left."""
    files = []
    for path in home.glob("*.so"):
        try:
            info = path.stat()
        except FileNotFoundError:  # another process removes, too
            continue
        files.append((info.st_mtime, info.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        path.with_suffix(".c").unlink(missing_ok=True)
        total -= size


def clear_cache() -> None:
    """Remove everything that has been compiled. What is loaded stays loaded."""
    shrink(cache_directory(), 0)
