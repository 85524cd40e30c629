"""The executor on a GPU: a program in CUDA C, its memory, the variables that it keeps, and its CUDA graphs.

Telling a GPU to run a function takes about as long as the function runs. A CUDA graph is a list of launches that is
told once and replayed with one call, at the same addresses each time. So everything lies at fixed addresses: inputs are
copied to arrays of the executor's own, results are copied from them, and variables that the step assigns live in them,
as in `native`: they are written in place as long as nobody else holds them.

CuPy refuses cuBLAS while launches are captured, and its other functions allocate, which a replay must not rely on. So a
graph is captured of each row of launches between two calls of CuPy. Where capturing fails, the launches are made one by
one; `Cuda.refusal` says what was the matter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from .. import backend
from ..errors import CompilerError
from ..graph import Graph, substitute
from ..interrupt import held
from ..op import explained
from ..tensor import Tensor
from ..variable import Gradient
from .cuda_program import Call, CudaProgram, Operand, Place, Split, Start
from .loops import contiguous
from .passes import default_passes, optimize
from .passes.fuse import FUSED
from .program import OutOfRange
from .run import Executable
from .statements import FIRST

OPTIONS = ("--fmad=false",)  # a * b + c is rounded twice, as in dynamic mode


def first_line(error: BaseException) -> str:
    """The type and the first line of an error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def shown(cell: Any) -> Any:
    """What a variable shows: its tensor, or its gradient's array."""
    return cell.variable._grad if isinstance(cell, Gradient) else cell._tensor


class Cuda:
    """A graph, compiled to CUDA C. `cuda(arrays)` takes the arrays of the inputs, reads and assigns the variables of
    the graph, and returns the arrays of the outputs.

    Args:
        graph: what is computed on the GPU, `parts.back`, optimised. parts: see `Split`.

    Attributes:
        program: the plan and its text.
        captured: how many CUDA graphs are replayed in a step.
        refusal: why rows of launches are not captured; None if they are.
    """

    def __init__(self, graph: Graph, parts: Split):
        device = parts.device
        self.device, self.xp, self.parts = device, backend.backends[device.kind].xp, parts
        front = parts.front
        self.front = None if front is None else Executable(optimize(front, default_passes("numpy"))[0])
        self.program = p = CudaProgram(graph)
        self.lock = threading.Lock()
        g = p.graph
        self.cells = [cell for cell, t in g.assigns.items() if t is not None]
        self.cleared = [cell for cell, t in g.assigns.items() if t is None]
        assigned = set(map(id, self.cells))
        self.reads = list(g.reads)
        self.others = [(FIRST + len(g.inputs) + i, c) for i, c in enumerate(self.reads) if id(c) not in assigned]
        entries = {id(c): FIRST + len(g.inputs) + i for i, c in enumerate(self.reads)}
        first = p.first_root + len(g.outputs)
        self.where = [[first + i, *([entries[id(c)]] if id(c) in entries else [])] for i, c in enumerate(self.cells)]
        self.table: dict[int, Any] = {}
        self.captured = 0
        self.refusal: str | None = None
        self.actions: list[Callable[[], Any]] = []
        self.homes: list[Any] = []
        self.tensors: list[Any] = []
        self.watched: list[Any] = []
        self.alone = -1
        with backend.on(device):
            self.functions = self.build()
            self.arena = self.xp.empty(max(p.arena, 1), "uint8")
            self.status = self.xp.zeros(1, "int32")
            self.inputs = [self.xp.empty(t.shape, t.dtype) for t in g.inputs]
            self.last: list[Any] = [None] * len(g.inputs)  # the inputs of the last call, or False: see `take`
            self.outputs = [self.xp.empty(t.shape, t.dtype) for t in g.outputs]
            self.table.update(enumerate(self.inputs, FIRST))
            self.table.update(enumerate(self.outputs, p.first_root))
            for i, n in enumerate(p.constants):
                self.table[p.first_constant + i] = self.xp.array(n.value, order="C")

    def build(self) -> dict[str, Any]:
        """The compiled functions, by name.

        Raises:
            CompilerError: CuPy could not compile the text.
        """
        names = {s.name for segment in self.program.segments if isinstance(segment, list) for s in segment}
        if not names:
            return {}
        try:
            module = self.xp.RawModule(code=self.program.source, options=OPTIONS)
            return {name: module.get_function(name) for name in names}
        except (self.xp.cuda.compiler.CompileException, RuntimeError, ImportError, OSError) as error:
            # refused by the compiler; by the driver; or a library is missing
            raise CompilerError("compile: CuPy could not compile the CUDA text", actual=first_line(error)) from error

    # -------------------------------------------------------------------------------------------------------- calling
    def __call__(self, arrays: Sequence[Any]) -> list[Any]:
        with held(), self.lock, backend.on(self.device):  # an interrupt waits for the end of the step
            return self.run(arrays)

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        given = [a for a, in_front in zip(arrays, self.parts.inputs, strict=True) if not in_front]
        early: list[Any] = []
        if self.front is not None:
            theirs = [a for a, in_front in zip(arrays, self.parts.inputs, strict=True) if in_front]
            early = self.front([*theirs, *[cell._tensor.value for cell in self.front.graph.reads]])
        settled = self.at_home()
        if not settled:
            self.move()
        for i, array in enumerate(given):
            self.take(i, array)
        self.look_at_others()
        if not self.actions:
            self.bind()
        for i, array in enumerate(early[: self.parts.moving], len(given)):
            self.inputs[i].set(np.asarray(array, order="C"))
        if self.program.guarded:
            self.status.fill(0)
        for act in self.actions:
            act()
        if self.program.guarded and int(self.status[0]):
            raise OutOfRange
        for target, source in self.copies:
            target[...] = source
        results = iter([mine.copy() for mine in self.outputs])
        kept = iter(early[self.parts.moving :])
        if not settled or self.cleared:
            self.settle()
            if self.alone < 0:
                self.alone = sum(map(getrefcount, self.watched))
        found = [next(kept) if in_front else next(results) for in_front in self.parts.outputs]
        if self.front is not None:
            for cell, array in zip(self.front.assigned, kept, strict=True):
                cell.store(array)
        return found

    def take(self, i: int, array: Any) -> None:
        """Input number i of a call. It is copied to where launches expect it. One that comes a second time, as data
        that is the same in all calls does, is read where it is from then on, until another one comes."""
        entry = FIRST + i
        if array is self.table[entry]:
            return
        if self.last[i] is array and array.flags.c_contiguous:
            self.table[entry], self.actions = array, []
            return
        if self.table[entry] is not self.inputs[i]:
            self.table[entry], self.last[i], self.actions = self.inputs[i], False, []
        self.inputs[i][...] = array
        if self.last[i] is not False:
            self.last[i] = array

    # ------------------------------------------------------------------------------------------------------ variables
    def at_home(self) -> bool:
        """Whether all assigned variables are where this program left them, and nobody else can see those arrays."""
        return (
            self.alone >= 0
            and all(shown(c) is t for c, t in zip(self.cells, self.tensors, strict=True))
            and sum(map(getrefcount, self.watched)) == self.alone
        )

    def move(self) -> None:
        """New arrays for all assigned variables, with their values where the program reads them."""
        read = set(map(id, self.reads))
        self.alone, self.actions, self.watched, self.tensors = -1, [], [], []
        self.homes = []
        for c in self.cells:
            if id(c) in read:
                self.homes.append(self.xp.array(c._tensor.value, copy=True, order="C"))
            else:
                like = (c.variable if isinstance(c, Gradient) else c)._tensor
                self.homes.append(self.xp.empty(like.shape, like.dtype))
        for array, entries in zip(self.homes, self.where, strict=True):
            self.table.update(dict.fromkeys(entries, array))

    def settle(self) -> None:
        """After a successful run: let the variables show the arrays."""
        if self.alone < 0:
            for cell, array in zip(self.cells, self.homes, strict=True):
                cell.store(array)
            self.tensors = list(map(shown, self.cells))
            self.watched = [*self.homes, *self.tensors]
        for cell in self.cleared:
            cell.store(None)

    def look_at_others(self) -> None:
        """Variables that are only read are read where they are; when one has moved, everything is told anew."""
        for entry, cell in self.others:
            array = cell._tensor.value
            if self.table.get(entry) is not array:
                self.table[entry] = array if array.flags.c_contiguous else self.xp.ascontiguousarray(array)
                self.actions = []

    # -------------------------------------------------------------------------------------------------------- binding
    def memory(self, place: Place, size: int, dtype: Any) -> Any:
        """What lies somewhere, as an array with one axis."""
        if place.entry is not None:
            return self.table[place.entry].reshape(-1)
        if place.offset is None:
            return self.status
        return self.arena[place.offset : place.offset + size * dtype.itemsize].view(dtype)

    def look(self, operand: Operand) -> Any:
        """The memory of an operand, looked at as the operand does."""
        like, view = operand.like, operand.view
        if not like.size:
            return self.xp.empty(like.shape, like.dtype)
        memory = self.memory(operand.place, operand.size, like.dtype)[view.offset :]
        if view.strides == contiguous(like.shape):
            return memory[: like.size].reshape(like.shape)
        strides = [s * like.dtype.itemsize for s in view.strides]
        return self.xp.lib.stride_tricks.as_strided(memory, like.shape, strides)

    def bind(self) -> None:
        """Turn the segments into things to call, at the addresses of now."""
        self.captured = 0
        self.actions = [
            self.calling(segment) if isinstance(segment, Call) else self.launching(segment)
            for segment in self.program.segments
        ]
        self.copies = [(self.table[entry], self.look(operand)) for entry, operand in self.program.finals]

    def calling(self, call: Call) -> Callable[[], None]:
        """An operation by its own code."""
        n, xp = call.node, self.xp
        operands = [self.look(o) for o in call.operands]
        results = [self.memory(place, s.size, s.dtype)[: s.size].reshape(s.shape) for place, s in call.results]
        if n.op.name == "matmul" and min(x.ndim for x in n.inputs) > 1 and n.size:
            return lambda: xp.matmul(*operands, out=results[0])
        run, attrs = n.op.on(xp), n.attrs
        if n.op is FUSED:  # its constants are on the CPU: see `split`
            attrs = {"body": substitute(n.attrs["body"], self.there, constants=True)}

        def act() -> None:
            try:
                found = run(*operands, **attrs)
            except Exception as error:
                raise explained(n.op, n.inputs, n.attrs, error) from None
            for target, array in zip(results, found if type(n.value) is tuple else (found,), strict=True):
                target[...] = array

        return act

    def there(self, n: Tensor) -> Tensor:
        """A constant on the GPU; other nodes as they are."""
        return n if n.op is not None or n.is_symbolic else Tensor(self.xp.array(n.value), name=n.name)

    def launching(self, starts: Sequence[Start]) -> Callable[[], None]:
        """Launches in a row: a CUDA graph of them, if there are several and it can be had."""

        def argument(place: Place) -> Any:
            if place.offset is not None:
                return self.arena[place.offset :]
            return self.status if place.entry is None else self.table[place.entry]

        calls = [(self.functions[s.name], (s.blocks,), (s.threads,), tuple(map(argument, s.arguments))) for s in starts]

        def launch() -> None:
            for function, grid, block, arguments in calls:
                function(grid, block, arguments)

        if len(calls) == 1 or self.refusal is not None:
            return launch
        stream = self.xp.cuda.Stream(non_blocking=True)
        try:
            with stream:
                stream.begin_capture()
                try:
                    launch()
                finally:
                    graph = stream.end_capture()
        except RuntimeError as error:  # all of CuPy's are
            self.refusal = first_line(error)
            return launch
        self.captured += 1
        replay: Callable[[], None] = graph.launch
        return replay
