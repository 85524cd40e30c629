"""The native executor: a program in C, its memory, and the variables that it keeps.

Variables that the program assigns live at home: in arrays of the executor's own, which the variables' tensors show and
the C function writes over, so that a step allocates and copies nothing. Tensors are immutable all the same. Before each
call the executor counts references: if anybody else holds one of these tensors or arrays, the program moves to new
arrays first, and the holder keeps the old ones (see `optim/flat.py`, which does the same for optimisers).

A call goes one of two ways. The usual one is `step`, a function written for this program (`entry`). Where there is more
to do, `run` does it: at the first call, when variables have been assigned or are held by somebody, when arrays have to
be made contiguous, for operations without C, and after an error.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from ..errors import GraphError
from ..graph import Graph
from ..interrupt import held
from ..op import common_device, explained
from ..tensor import Tensor
from ..variable import Gradient
from . import blas, toolchain
from .entry import COUNT, LARGE, load, references, write_native
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

HELD = -1  # what a function that counts references returns when somebody holds a variable's value
ALONE = 3  # references to an array that only `Native.returned` holds, counted where `result` looks at it


class Native:
    """A graph, compiled to one C function. `native(arrays)` takes the arrays of the inputs, reads and assigns the
    variables of the graph, and returns the arrays of the outputs.

    Attributes:
        program: the plan and its C text.
        library: what was compiled.
        at_home: says whether all assigned variables are where this program left them, and nobody else can see those
            arrays.
        step: the usual way through, `step(*arrays)`: it returns None where only the general way leads on; None if it
            always does.
    """

    def __init__(self, graph: Graph, passes: Sequence[Pass] = ()):
        library = blas.find()
        self.program = NativeProgram(graph, products=library is not None, threads=threads(), passes=passes)
        self.lock = threading.RLock()  # a handler of signals may run in the middle of a call, and call again
        p = self.program
        g = p.graph
        self.inputs, self.outputs = len(g.inputs), [(t.shape, t.dtype) for t in g.outputs]
        self.cells = [cell for cell, t in g.assigns.items() if t is not None]
        self.cleared = [cell for cell, t in g.assigns.items() if t is None]
        self.others = [c for c in g.reads if c not in set(self.cells)]
        self.carried = {id(c) for c in g.reads}
        self.reads = list(g.reads)
        arguments = {id(c): FIRST + self.inputs + i for i, c in enumerate(self.reads)}
        roots = {id(c): p.first_root + len(self.outputs) + i for i, c in enumerate(self.cells)}
        self.where = [[e[id(c)] for e in (roots, arguments) if id(c) in e] for c in self.cells]
        self.where_others = [arguments[id(c)] for c in self.others]
        self.first_watched = p.first_constant + len(p.constants)
        count = sum(1 if isinstance(c, Gradient) else 2 for c in self.cells)  # an array each, and a tensor
        self.table = (ctypes.c_size_t * (self.first_watched + count + 1))()
        self.address = ctypes.addressof(self.table)
        last = self.first_watched + count
        counting = COUNT.format(symbol=p.symbol, first=self.first_watched, last=last, held=HELD)
        self.library = toolchain.build(p.source + counting, openmp=p.parallel)
        self.function, self.counting = getattr(self.library, p.symbol), getattr(self.library, f"{p.symbol}_counting")
        for function in (self.function, self.counting):
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
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
        self.running = False
        self.calls_back = f"p[{CALLBACK}]" in p.source
        self.entry, names = write_native(self)
        self.names = load(self.entry, names)
        self.at_home: Callable[[], bool] = names["at_home"]
        self.step: Callable[..., list[Any] | None] | None = names.get("step")
        self.current: dict[int, Any] = {}
        self.error: BaseException | None = None

    # -------------------------------------------------------------------------------------------------------- calling
    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        given = [a if type(a) is np.ndarray else np.asarray(a) for a in arrays]
        results = self.step(*given) if self.step is not None else None
        if results is not None:
            return results
        with held() as waiting, self.lock:  # an interrupt waits for the end of the step, or of a round of a loop
            if self.running:
                raise GraphError(
                    "a compiled function is called from inside of its own call",
                    actual="by an operation without C, or by a handler of signals",
                    remedy="note what is to be done, and do it after the call",
                )
            self.waiting, self.running = waiting, True
            self.names["ready"] = False
            try:
                results = self.run(given)
            finally:
                self.running = False
            self.names["ready"] = True
            return results

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """The general way."""
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
        results = [self.result(i) for i in range(len(self.outputs))]
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
        if not settled:
            self.settle()
        for cell in self.cleared:
            cell.store(None)
        return results

    def result(self, i: int) -> np.ndarray:
        """An array for an output. A large one that was returned before and that nobody holds any more is taken again:
        the system would clear each page of a new one first."""
        last = self.returned[i]
        if last is None or getrefcount(last) != ALONE:
            last = np.empty(*self.outputs[i])
            self.returned[i] = last if last.nbytes >= LARGE else None
        return last

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
    def move(self) -> None:
        """New arrays for all assigned variables, with their values where the program reads them."""
        homes = []
        for c in self.cells:
            if id(c) in self.carried:
                homes.append(np.array(c._tensor.value, copy=True, order="C"))
            else:
                like = (c.variable if isinstance(c, Gradient) else c)._tensor
                homes.append(np.empty(like.shape, like.dtype))
        self.homes = homes
        self.names.update({f"t{i}": None for i in range(len(homes))}, watched=[], alone=-1)
        for array, entries in zip(homes, self.where, strict=True):
            for entry in entries:
                self.table[entry] = id(array)

    def settle(self) -> None:
        """After a successful run: let the variables show the arrays, and count who holds them."""
        names, tensors = self.names, []
        for i, (cell, array) in enumerate(zip(self.cells, self.homes, strict=True)):
            cell.store(array)
            if isinstance(cell, Gradient):
                names[f"t{i}"] = array
            else:
                names[f"t{i}"] = cell._tensor
                tensors.append(cell._tensor)
        names["watched"] = [*self.homes, *tensors]
        addresses = list(map(id, names["watched"]))
        self.table[self.first_watched :] = [*addresses, 0]
        del array, tensors
        names["alone"] = sum(map(getrefcount, names["watched"]))
        self.table[self.first_watched + len(addresses)] = references(addresses)

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
