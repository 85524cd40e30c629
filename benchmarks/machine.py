"""What the numbers depend on: processor, versions, BLAS kernel, and how busy the machine is with other things."""

import importlib.util
import os
import platform
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")
TICKS = os.sysconf("SC_CLK_TCK")


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def version(package: str) -> str:
    """The version of an installed distribution; a package that is imported from its source tree has none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "source tree"


def processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def widest_vectors() -> str:
    """The widest vector instructions the processor offers, as far as Linux tells."""
    information = Path("/proc/cpuinfo")
    flags = set(information.read_text().split()) if information.exists() else set()
    return next((name for name in ("avx512f", "avx2", "asimd") if name in flags), "unknown")


def blas() -> str:
    """The BLAS library that NumPy loaded, and which kernel it chose for this processor."""
    import numpy as np

    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    if not installed("threadpoolctl"):
        library = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{library['name']} {library['version']} (kernel unknown: pip install threadpoolctl)"
    from threadpoolctl import threadpool_info

    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(f"{pool['internal_api']} {pool['version']}, kernel {pool.get('architecture')}" for pool in found)


def describe(packages: Iterable[str]) -> dict[str, Any]:
    """The machine and the versions, for the report and the raw results."""
    return {
        "processor": processor(),
        "processors": os.cpu_count(),
        "vectors": widest_vectors(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: version(package) for package in packages if installed(package)},
        "numpy_blas": blas(),
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", "not set"),
        "time": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }


def busy_seconds() -> float | None:
    """Processor seconds used so far by everything on the machine, time stolen by its host included; Linux only."""
    if not STAT.exists():
        return None
    user, nice, system, _idle, _iowait, interrupts, soft, steal = map(int, STAT.read_text().split()[1:9])
    return (user + nice + system + interrupts + soft + steal) / TICKS


def process_seconds(pid: int) -> float:
    """Processor seconds used so far by one process and all its threads; Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def wait_until_idle(limit: float = 0.3) -> None:
    """Wait until nothing runs (thread pools spin for a while after their last work), but not longer than the limit."""
    end = time.monotonic() + limit
    before = busy_seconds()
    while before is not None and time.monotonic() < end:
        time.sleep(0.05)
        after = busy_seconds() or 0.0
        if after - before < 1.5 / TICKS:
            return
        before = after
