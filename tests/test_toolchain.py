"""From C text to a library: compilers that are missing or fail, and a cache that many use at once and nobody else can
write to."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from minigraph.compiler import toolchain
from minigraph.errors import CompilerError

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "int answer(void) { return 42; }\n"

needs_compiler = pytest.mark.skipif(toolchain.find_compiler() is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("MINIGRAPH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_a_compiler_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)
    assert toolchain.find_compiler() is None
    with pytest.raises(CompilerError, match="no C compiler"):
        toolchain.build(SOURCE)


def test_a_compiler_that_cannot_compile_is_none(tmp_path, monkeypatch):
    fake = tmp_path / "cc"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo fake 1.0 && exit 0\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setenv("CC", str(fake))
    monkeypatch.setattr(toolchain, "candidates", lambda: [(str(fake),)])
    toolchain._find.cache_clear()
    assert toolchain.find_compiler() is None
    toolchain._find.cache_clear()


@needs_compiler
def test_text_becomes_a_function_and_is_compiled_once(home, monkeypatch):
    assert toolchain.build(SOURCE).answer() == 42
    assert len(list(home.glob("*.so"))) == len(list(home.glob("*.c"))) == 1
    assert (home.stat().st_mode & 0o777) == 0o700
    monkeypatch.setattr(toolchain, "run_compiler", lambda *args: pytest.fail("compiled again"))
    assert toolchain.build(SOURCE).answer() == 42


@needs_compiler
def test_an_error_names_the_message_and_the_line():
    with pytest.raises(CompilerError) as error:
        toolchain.build("int f(void) {\n  return missing;\n}\n")
    assert "missing" in error.value.actual
    assert "line 2: return missing;" in error.value.actual


@needs_compiler
def test_a_file_cut_short_is_built_again(home):
    toolchain.build(SOURCE)
    (library,) = home.glob("*.so")
    other = library.with_name("x.so")
    other.write_bytes(library.read_bytes()[:100])
    os.replace(other, library)
    code = f"from minigraph.compiler import toolchain; assert toolchain.build({SOURCE!r}).answer() == 42"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert library.stat().st_size > 100


@needs_compiler
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_cache_that_others_can_write_to_is_not_used(home, mode):
    home.mkdir()
    home.chmod(mode)
    assert toolchain.build(f"int f(void) {{ return {mode}; }}").f() == mode
    assert not list(home.iterdir())


@needs_compiler
def test_a_link_in_place_of_the_cache_is_not_followed(home, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    home.symlink_to(elsewhere)
    assert toolchain.build("int linked(void) { return 7; }").linked() == 7
    assert not list(elsewhere.iterdir())


@needs_compiler
def test_a_library_that_others_can_write_to_is_not_loaded(home):
    toolchain.build(SOURCE)
    (library,) = home.glob("*.so")
    planted = library.with_name("planted.so")
    toolchain.run_compiler(
        toolchain.find_compiler(), list(toolchain.FLAGS), "int answer(void) { return 13; }", home, "planted"
    )
    planted.chmod(0o777)
    os.replace(planted, library)
    code = f"from minigraph.compiler import toolchain; print(toolchain.build({SOURCE!r}).answer())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "42"


@needs_compiler
def test_a_home_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIGRAPH_CACHE", str(tmp_path / "file" / "below"))
    assert toolchain.build("int f(void) { return 5; }").f() == 5


@needs_compiler
def test_many_processes_at_once(home):
    code = f"from minigraph.compiler import toolchain; assert toolchain.build({SOURCE!r}).answer() == 42"
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(6)]
    assert [p.wait() for p in running] == [0] * 6
    assert len(list(home.glob("*.so"))) == 1
    assert not list(home.glob("build-*"))


@needs_compiler
def test_many_threads_at_once():
    found = []
    threads = [threading.Thread(target=lambda: found.append(toolchain.build(SOURCE).answer())) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [42] * 6


@needs_compiler
def test_an_interrupt_ends_the_compiler(tmp_path, monkeypatch):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 30 & wait\n")
    slow.chmod(0o755)
    compiler = toolchain.find_compiler()._replace(command=(str(slow),))
    timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), 2))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        toolchain.run_compiler(compiler, [], SOURCE, tmp_path, "slow")
    assert time.monotonic() - began < 20


@needs_compiler
def test_a_compiler_that_hangs(tmp_path, monkeypatch):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setattr(toolchain, "TIME_LIMIT", 0.2)
    with pytest.raises(CompilerError, match="did not finish"):
        toolchain.run_compiler(toolchain.find_compiler()._replace(command=(str(slow),)), [], SOURCE, tmp_path, "slow")


@needs_compiler
def test_the_cache_forgets_what_was_used_least(home):
    for i in range(4):
        toolchain.build(f"int f(void) {{ return {i}; }}")
    files = sorted(home.glob("*.so"), key=lambda path: path.stat().st_mtime_ns)
    for k, path in enumerate(files):
        os.utime(path, (k, k))
    toolchain.shrink(home, sum(path.stat().st_size for path in files[2:]))
    assert sorted(home.glob("*.so")) == sorted(files[2:])
    assert {path.stem for path in home.glob("*.c")} == {path.stem for path in files[2:]}
    toolchain.clear_cache()
    assert not list(home.iterdir())


@needs_compiler
def test_flags_keep_the_values_of_numpy():
    """Multiplication and addition stay two roundings, and integers wrap around."""
    library = toolchain.build(
        "#include <stdint.h>\nfloat f(float a, float b, float c) { return a * b + c; }\n"
        "int32_t g(int32_t a) { return a + 1 > a; }\n"
    )
    library.f.restype, library.f.argtypes = ctypes.c_float, [ctypes.c_float] * 3
    a = 1 + 2.0**-12
    assert library.f(a, a, -(1 + 2.0**-11)) == 0.0  # fused, it would be 2**-24
    assert library.g(2**31 - 1) == 0
