"""The native executor: a program in C, its memory, and the variables that it keeps.

Variables that the program assigns live at home: in arrays of the executor's own, which the variables' tensors show and
the C function writes over, so that a step allocates and copies nothing. Tensors are immutable all the same. Before each
call the executor counts references: if anybody else holds one of these tensors or arrays, the program moves to new
arrays first, and the holder keeps the old ones (see `optim/flat.py`, which does the same for optimisers).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from operator import attrgetter, is_
from sys import getrefcount
from typing import Any

import numpy as np

from ..graph import Graph
from ..interrupt import held
from ..op import common_device, explained
from ..tensor import Tensor
from ..variable import Gradient
from . import blas, toolchain
from .nested import PRESSED
from .passes import Pass
from .program import NativeProgram, OutOfRange, key_of
from .statements import (
    ARENA,
    BLAS_THREADS,
    CALLBACK,
    CLOCK,
    DGEMM,
    FAILED,
    FIRST,
    NOT_CONTIGUOUS,
    OK,
    SET_BLAS_THREADS,
    SGEMM,
)
from .threads import threads

_tensor, _grad = attrgetter("_tensor"), attrgetter("_grad")


LARGE = 1 << 18  # bytes from which on an output's memory is used again
ALONE = 3  # references to an array that only `Native.returned` holds, counted where `fresh` looks at it


class Native:
    """A graph, compiled to one C function. `native(arrays)` takes the arrays of the inputs, reads and assigns the
    variables of the graph, and returns the arrays of the outputs.

    Attributes:
        program: the plan and its C text.
        library: what was compiled.
    """

    def __init__(self, graph: Graph, passes: Sequence[Pass] = ()):
        library = blas.find()
        self.program = NativeProgram(graph, products=library is not None, threads=threads(), passes=passes)
        self.library = toolchain.build(self.program.source, openmp=self.program.parallel)
        self.function = getattr(self.library, self.program.symbol)
        self.function.argtypes, self.function.restype = [ctypes.c_void_p], ctypes.c_int
        self.lock = threading.Lock()
        p = self.program
        g = p.graph
        self.inputs, self.outputs = len(g.inputs), [(t.shape, t.dtype) for t in g.outputs]
        self.cells = [cell for cell, t in g.assigns.items() if t is not None]
        self.cleared = [cell for cell, t in g.assigns.items() if t is None]
        self.variables = [c for c in self.cells if not isinstance(c, Gradient)]
        self.owners = [c.variable for c in self.cells if isinstance(c, Gradient)]
        self.others = [c for c in g.reads if c not in set(self.cells)]
        self.carried = {id(c) for c in g.reads}
        self.reads = list(g.reads)
        arguments = {id(c): FIRST + self.inputs + i for i, c in enumerate(self.reads)}
        roots = {id(c): p.first_root + len(self.outputs) + i for i, c in enumerate(self.cells)}
        self.where = [[e[id(c)] for e in (roots, arguments) if id(c) in e] for c in self.cells]
        self.where_others = [arguments[id(c)] for c in self.others]
        size = p.first_constant + len(p.constants)
        self.table = (ctypes.c_size_t * size)()
        self.address = ctypes.addressof(self.table)
        memory = np.empty(p.arena + 64, np.uint8)
        start = -memory.ctypes.data % 64
        self.arena = memory[start : start + p.arena]
        self.table[ARENA] = memory.ctypes.data + start
        if library is not None:
            self.table[SGEMM], self.table[DGEMM] = library.sgemm, library.dgemm
            self.table[BLAS_THREADS], self.table[SET_BLAS_THREADS] = library.threads, library.set_threads
        self.constants = [np.ascontiguousarray(n.value) for n in p.constants]
        for i, array in enumerate(self.constants):
            self.table[p.first_constant + i] = id(array)
        self.callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(self.call_back)
        self.table[CALLBACK] = ctypes.cast(self.callback, ctypes.c_void_p).value or 0
        self.steps = {s.detail: s for s in p.steps if s.kind == "callback"}
        self.waiting = held()
        self.returned: list[np.ndarray | None] = [None] * len(self.outputs)
        self.homes: list[np.ndarray] = []
        self.alone = -1
        self.current: dict[int, Any] = {}
        self.error: BaseException | None = None

    # -------------------------------------------------------------------------------------------------------- calling
    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        with held() as waiting, self.lock:  # an interrupt waits for the end of the step, or of a round of a loop
            self.waiting = waiting
            return self.run(arrays)

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        table, p = self.table, self.program
        settled = self.at_home()
        if not settled:
            self.move()
        given = [a if type(a) is np.ndarray else np.asarray(a) for a in arrays]
        table[FIRST : FIRST + self.inputs] = list(map(id, given))
        others = [c._tensor.value for c in self.others]
        others = [a if type(a) is np.ndarray else np.asarray(a) for a in others]
        for entry, a in zip(self.where_others, others, strict=True):
            table[entry] = id(a)
        results = self.fresh()
        table[p.first_root : p.first_root + len(results)] = list(map(id, results))
        status = self.start(given, others, results)
        if status == NOT_CONTIGUOUS:
            given, others = (
                [np.require(a, None, ["C", "A"]) for a in given],
                [np.require(a, None, ["C", "A"]) for a in others],
            )
            table[FIRST : FIRST + self.inputs] = list(map(id, given))
            for entry, a in zip(self.where_others, others, strict=True):
                table[entry] = id(a)
            status = self.start(given, others, results)
        self.current = {}
        if status != OK:
            raise self.failure(status)
        if not settled or self.cleared:
            self.settle()
            if self.alone < 0:
                self.alone = sum(map(getrefcount, self.watched))
        return results

    def fresh(self) -> list[np.ndarray]:
        """Arrays for the outputs. A large one that was returned before and that nobody holds any more is taken again:
        the system would clear each page of a new one first."""
        results = []
        for i, (shape, dtype) in enumerate(self.outputs):
            last = self.returned[i]
            if last is None or getrefcount(last) != ALONE:
                last = np.empty(shape, dtype)
                self.returned[i] = last if last.nbytes >= LARGE else None
            results.append(last)
        return results

    def start(self, given: Sequence[Any], others: Sequence[Any], results: Sequence[Any]) -> int:
        """Call the C function."""
        if self.program.callbacks:
            self.show(given, others, results)
        return int(self.function(self.address))

    def measure(self, arrays: Sequence[Any], calls: int) -> list[float]:
        """The shortest time in seconds that each step took in so many calls, which are real ones: variables change."""
        library = toolchain.build(self.program.text(timed=True), openmp=self.program.parallel)
        timed = getattr(library, self.program.symbol)
        timed.argtypes, timed.restype = [ctypes.c_void_p], ctypes.c_int
        spent = np.zeros(len(self.program.steps))
        best = np.full(len(self.program.steps), np.inf)
        with self.lock:
            untimed, self.function = self.function, timed
            self.table[CLOCK] = spent.ctypes.data
            try:
                for _ in range(calls):
                    spent[:] = 0
                    self.run(arrays)
                    np.minimum(best, spent, out=best)
            finally:
                self.function = untimed
        return [float(t) * 1e-9 for t in best]

    # ------------------------------------------------------------------------------------------------------ variables
    def at_home(self) -> bool:
        """Whether all assigned variables are where this program left them, and nobody else can see those arrays."""
        return (
            self.alone >= 0
            and all(map(is_, map(_tensor, self.variables), self.tensors))
            and all(map(is_, map(_grad, self.owners), self.gradients))
            and sum(map(getrefcount, self.watched)) == self.alone
        )

    def move(self) -> None:
        """New arrays for all assigned variables, with their values where the program reads them."""
        homes = []
        for c in self.cells:
            if id(c) in self.carried:
                homes.append(np.array(c._tensor.value, copy=True, order="C"))
            else:
                like = (c.variable if isinstance(c, Gradient) else c)._tensor
                homes.append(np.empty(like.shape, like.dtype))
        self.homes, self.alone = homes, -1
        self.watched: list[Any] = []
        self.tensors: list[Any] = []
        self.gradients: list[Any] = []
        for array, entries in zip(homes, self.where, strict=True):
            for entry in entries:
                self.table[entry] = id(array)

    def settle(self) -> None:
        """After a successful run: let the variables show the arrays."""
        if self.alone < 0:
            for cell, array in zip(self.cells, self.homes, strict=True):
                cell.store(array)
            self.tensors = [v._tensor for v in self.variables]
            self.gradients = [v._grad for v in self.owners]
            self.watched = [*self.homes, *self.tensors]
        for cell in self.cleared:
            cell.store(None)

    # --------------------------------------------------------------------------------------------- operations without C
    def show(self, given: Sequence[Any], others: Sequence[Any], results: Sequence[Any]) -> None:
        """Note the arrays of this call for the operations that are called back."""
        arrays = dict(zip(self.where_others, others, strict=True))
        arrays.update(enumerate(given, FIRST))
        arrays.update(enumerate(results, self.program.first_root))
        arrays.update(enumerate(self.constants, self.program.first_constant))
        for array, entries in zip(self.homes, self.where, strict=True):
            for entry in entries:
                arrays[entry] = array
        self.current = arrays

    def memory_of(self, key: Any, like: Any) -> np.ndarray:
        offset = self.program.offsets.get(key)
        if offset is None:
            return self.current[self.program.entries[key]].reshape(like.shape)
        return self.arena[offset : offset + like.nbytes].view(like.dtype).reshape(like.shape)

    def value(self, t: Tensor) -> Any:
        """The array of a node at this point of the run."""
        p = self.program
        if t.op is None and not t.is_symbolic:
            return t.value
        key = key_of(t)
        if key in p.offsets or key in p.entries:
            return self.memory_of(key, t.value)
        return t.op.numpy(*[self.value(x) for x in t.inputs], **(t.attrs or {}))

    def call_back(self, number: int) -> int:
        """Run an operation that has no C; or look whether somebody has interrupted a loop."""
        try:
            if number == PRESSED:
                self.waiting.deliver()
                return 0
            step = self.steps[number]
            n = step.node
            run = n.op.at(common_device(n.op, n.inputs))
            try:
                found = run(*[self.value(x) for x in n.inputs], **n.attrs)
            except Exception as error:
                raise explained(n.op, n.inputs, n.attrs, error) from None
            values = n.value if type(n.value) is tuple else (n.value,)
            found = found if type(n.value) is tuple else (found,)
            for key, like, array in zip(step.writes, values, found, strict=True):
                np.copyto(self.memory_of(key, like), array)
        except BaseException as error:  # it travels around the C function
            self.error = error
            return 1
        return 0

    def failure(self, status: int) -> BaseException:
        """What went wrong, in words."""
        if status == FAILED and self.error is not None:
            error, self.error = self.error, None
            return error
        return OutOfRange()
