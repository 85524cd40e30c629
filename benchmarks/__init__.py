"""Benchmarks: whole training steps of minigraph against other frameworks, measured so that the ratio can be trusted.

Reading order:

- ``problems.py``  the workloads: data and initial weights in NumPy, the same for every framework.
- ``peers/``       one module for each framework: a function for each family of workloads, ``family(problem, mode) -> step``.
- ``worker.py``    the process that holds one step and times it when asked.
- ``harness.py``   starts the workers, chooses thread settings, runs them in interleaved bursts, takes medians of ratios.
- ``machine.py``   what the numbers depend on: processor, versions, BLAS kernel, noise of neighbours.
- ``report.py``    the Markdown tables and the part of the README between two comments.
- ``dynamic.py``   the command ``python -m benchmarks.dynamic``: which peers, which workloads, which targets.
"""
