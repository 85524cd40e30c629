"""Benchmarks: whole training steps of minigraph against other frameworks, measured so that the ratio can be trusted.

Reading order:

- ``problems.py``  the workloads: data and initial weights in NumPy, the same for every framework.
- ``peers/``       one module for each framework: a function for each family of workloads that builds its training step.
- ``worker.py``    the process that holds one step and times it when asked.
- ``harness.py``   starts the workers, chooses thread settings, runs them in interleaved bursts.
- ``ratio.py``     the statistics: medians of per-round ratios.
- ``machine.py``   what the numbers depend on: processor, versions, BLAS kernel, noise of neighbours.
- ``report.py``    the Markdown tables and the part of the README between two comments.
- ``command.py``   the command line that all tables share.
- ``dynamic.py``   the command ``python -m benchmarks.dynamic``: which peers, which workloads, which targets.
- ``static.py``   the command ``python -m benchmarks.static``: compiled steps.
- ``compiling.py`` how long it takes until a compiled step runs, and how that grows with the graph.
- ``limits.py``    how far each compiled step is from what the machine can do at most.
- ``gpu.py``       the command ``python -m benchmarks.gpu``: tests and measures on an NVIDIA GPU.
"""
