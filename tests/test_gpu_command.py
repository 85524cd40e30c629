"""The command for machines with a GPU, as far as it can be tested without one: on the stand-in, with small problems."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import minigraph as mg
from benchmarks import gpu
from benchmarks.problems import mlp
from minigraph.errors import DeviceError

SMALL = {"a small MLP": lambda: mlp(8, (5, 4, 3))}


def without_a_gpu():
    try:
        mg.device("cuda")
    except DeviceError:
        return True
    return False


@pytest.mark.skipif(not without_a_gpu(), reason="there is a GPU: see python -m benchmarks.gpu")
def test_without_a_gpu_it_says_so_in_one_sentence():
    ended = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=gpu.ROOT, capture_output=True, text=True)
    assert ended.returncode == 2 and not ended.stdout
    assert ended.stderr.startswith("Nothing was tested or measured: device: CuPy")
    assert len(ended.stderr.splitlines()) == 1


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The command with the stand-in for a GPU, one small problem, and a file of its own."""
    monkeypatch.setattr(gpu, "WORKLOADS", SMALL)
    monkeypatch.setattr(gpu, "RESULT", tmp_path / "gpu.md")
    monkeypatch.setattr(gpu, "torch_step", lambda problem, device: None)
    about = {"time": "2000-01-01 00:00", "system": "S", "processor": "P", "python": "3", "versions": {"cupy": "14"}}
    monkeypatch.setattr(gpu, "describe", lambda device: ("NVIDIA Example", about))
    monkeypatch.setattr(gpu, "CONTENDERS", gpu.CONTENDERS[:3])
    return monkeypatch


COMMAND = ["--device", "strict", "--rounds", "1", "--seconds", "0.001"]


def test_it_writes_the_table(small):
    small.setattr(gpu, "run_tests", lambda: {"some tests": (True, "3 passed")})
    assert gpu.main(COMMAND) == 0
    text = gpu.RESULT.read_text("utf-8")
    assert "NVIDIA Example, 2000-01-01 00:00 UTC." in text and "cupy 14" in text
    assert "| some tests | passed | 3 passed |" in text
    row = next(line for line in text.splitlines() if line.startswith("| a small MLP"))
    assert row.count(" ms |") == 3
    assert "- a small MLP: step(x: float32[8, 5] on strict, y: int64[8] on strict) runs in NumPy" in text


def test_tests_that_fail_are_seen(small):
    small.setattr(gpu, "run_tests", lambda: {"some tests": (False, "1 failed")})
    assert gpu.main(COMMAND) == 1
    assert "| some tests | FAILED | 1 failed |" in gpu.RESULT.read_text("utf-8")


def test_a_contender_that_computes_something_else_is_not_timed(small):
    wrong = gpu.Contender("wrong", lambda problem, device: lambda: mg.tensor(7.0), lambda device: None)
    small.setattr(gpu, "CONTENDERS", (*gpu.CONTENDERS, wrong))
    small.setattr(gpu, "run_tests", dict)
    assert gpu.main(COMMAND) == 1
    assert "| wrong: losses differ from the CPU's by" in gpu.RESULT.read_text("utf-8")


def test_a_framework_that_is_missing_is_named():
    speeds = gpu.measure(mlp(8, (5, 4, 3)), mg.device("strict"), rounds=1, seconds=0.001)
    assert speeds["PyTorch eager"] == "not installed" or isinstance(speeds["PyTorch eager"], float)
    assert all(isinstance(speeds[title], float) for title in ("minigraph dynamic", "minigraph compiled, CUDA C"))


def test_it_runs_the_tests_for_the_gpu(monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        return SimpleNamespace(returncode=len(commands) - 1, stdout="...\n== 4 passed in 1 s ==\n", stderr="")

    monkeypatch.setattr(gpu.subprocess, "run", run)
    outcomes = gpu.run_tests()
    assert [ok for ok, _ in outcomes.values()] == [True, False]
    assert {words for _, words in outcomes.values()} == {"4 passed in 1 s"}
    marked, family = commands
    assert {"test_backend.py", "test_cuda_dialect.py"} <= {Path(file).name for file in marked} and "cuda" in marked
    assert family[-1].endswith("test_all_ops.py")


def test_the_tests_it_runs_can_be_collected_without_the_plugins_of_this_project():
    options = ["-p", "no:nbval", "-p", "no:xdist", *gpu.OPTIONS, "--collect-only", "-m", "cuda"]
    command = [sys.executable, "-m", "pytest", *options, "tests/test_backend.py", "tests/test_cuda_dialect.py"]
    ended = subprocess.run(command, cwd=gpu.ROOT, capture_output=True, text=True)
    assert ended.returncode == 0 and "test_a_real_gpu" in ended.stdout and "test_rows[real-10]" in ended.stdout, (
        ended.stdout + ended.stderr
    )
