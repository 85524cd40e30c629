"""A whole graph as one C function.

The function gets one table of addresses: the arena, the arrays of the inputs and variables, the constants, and the
arrays of the results. It calls the kernels of the schedule one after another and returns a status. An operation that
has no C runs by its own code all the same: the function calls back.

Results are written in one of three ways. An output is written straight into a fresh array. A variable's new value is
written over its old one, if every reader of the old value has read by then and nothing can fail any more. Otherwise it
is computed in the arena and copied at the very end. So a step that fails has changed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..graph import Graph, copy_node, substitute
from ..op import spec_of
from ..tensor import Tensor
from . import convolution, moving, randomness  # noqa: F401  their writers enter themselves into the table
from .expressions import Unsupported, Writer, c_type
from .lanes import text_of
from .loops import DTYPES, Kernel, Views, addressing, contiguous, in_memory, is_item, is_view
from .memory import Buffer, MemoryPlan, peaks, place
from .naming import Names
from .nested import NESTED, nested
from .passes import Pass, optimize
from .passes.algebra import made
from .passes.fuse import FUSED
from .render import KernelText, combination
from .schedule import schedule
from .statements import (
    ARENA,
    BLAS_THREADS,
    CALLBACK,
    CLOCK,
    FAILED,
    FIRST,
    NOT_CONTIGUOUS,
    OK,
    OUT_OF_RANGE,
    SET_BLAS_THREADS,
    WRITERS,
    Statement,
)

CONTIGUOUS = 0x101  # of NumPy's flags: in C order, and aligned

LONG = 64  # steps from which on the function that only calls others is not optimised: that takes compilers long
PRELUDE = """#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

/* The memory and the flags of a NumPy array, as NumPy's binary interface lays them out. */
#define DATA(array) (*(char **)((array) + {head}))
#define FLAGS(array) (*(int *)((array) + {head} + 48))
"""
CALLS_ONLY = """
/* A function that only calls others: optimising it takes a compiler longer than all that it calls. */
#ifdef __clang__
#define CALLS_ONLY __attribute__((optnone, noinline))
#else
#define CALLS_ONLY __attribute__((optimize("O0"), noinline))
#endif
"""
ONE_POOL = """/* BLAS uses the thread that calls it, and nobody else's. */
int {name}(char **p) {{
  int before = ((int (*)(void))p[{get}])();
  ((void (*)(int))p[{put}])(1);
  int status = run(p);
  ((void (*)(int))p[{put}])(before);
  return status;
}}
"""
TIMER = """#include <time.h>
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }
"""

Key = tuple[int, int]  # what is in memory: (id of a node, which of its results)


class OutOfRange(Exception):
    """A label or an index that the function refused. It has no words for it: another executor finds them."""


class Step(NamedTuple):
    """One statement of the function: what it computes, reads and writes, and whether it can fail."""

    node: Tensor
    kind: str  # "kernel", "statement" or "callback"
    reads: tuple[Tensor, ...]
    writes: tuple[Key, ...]
    fallible: bool
    detail: Any = None


def pointee(dtype: Any) -> str:
    """The C type of an array's elements."""
    return c_type(dtype) if dtype in DTYPES else "char"


def key_of(base: Tensor) -> Key:
    if is_item(base):
        return id(base.inputs[0]), base.attrs["index"]
    return id(base), 0


def nothing_to_do(n: Tensor) -> bool:
    """Whether an operation has no elements to compute, and no index that it would have to refuse."""
    values = n.value if type(n.value) is tuple else (n.value,)
    how = addressing(n)
    data = () if how is None else (how.table, how.values)
    indices = [x for i, x in enumerate(n.inputs) if i not in data and in_memory(x) and x.dtype.kind in "iu"]
    if n.op.name in NESTED or not n.op.builtin or any(x.size for x in indices):
        return False
    return not any(v.size for v in values)


def made_contiguous(graph: Graph) -> Graph:
    """The graph with a copy where something has to be contiguous and is not: a reshape that is no view, and a result
    that only looks at something else."""
    views = Views()

    def visit(n: Tensor) -> Tensor:
        if n.op.name == "reshape" and in_memory(n) and in_memory(n.inputs[0]) and views[n] is None:
            return made("reshape", made("copy", n.inputs[0], like=n), like=n, **n.attrs)
        return n

    def whole(t: Tensor) -> Tensor:
        view = views[t]
        if view is not None and (view.strides == contiguous(t.shape) or not t.size):
            return t
        if id(t) not in copies:
            copies[id(t)] = made("copy", t, like=t)
        return copies[id(t)]

    changing = {id(n): cell for cell, n in graph.reads.items() if cell in graph.assigns}

    def own(t: Tensor, cell: Any = None) -> Tensor:
        """A copy of the old value of a variable that is assigned: it is over when the new one has been written."""
        view = views[t]
        if view is None or changing.get(id(view.base), cell) is cell:
            return t
        if id(t) not in copies:
            copies[id(t)] = made("copy", t, like=t)
        return copies[id(t)]

    def visit_nested(n: Tensor) -> Tensor:
        """Loops and branches get all their inputs whole."""
        n = visit(n)
        if n.op.name not in NESTED or not all(map(in_memory, n.inputs)):
            return n
        inputs = [whole(x) for x in n.inputs]
        return n if all(a is b for a, b in zip(inputs, n.inputs, strict=True)) else copy_node(n, inputs)

    copies: dict[int, Tensor] = {}
    g = substitute(graph, visit_nested)
    outputs = [whole(own(t)) for t in g.outputs]
    assigns = {cell: None if t is None else whole(own(t, cell)) for cell, t in g.assigns.items()}
    return Graph([*g.nodes, *copies.values()], g.inputs, outputs, reads=g.reads, assigns=assigns, name=g.name)


class NativeProgram:
    """The plan of a graph as one C function.

    Attributes:
        source: the C text. symbol: the function's name.
        arguments: nodes whose arrays are given, in order; constants: nodes whose arrays are part of the graph.
        roots: the results, outputs first, then what is assigned.
        arena: bytes; memory: the `MemoryPlan`. callbacks: the nodes that run by their own code.
        bodies: the programs of nested graphs, by the id of the graph; None where a part has no C.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        products: bool,
        threads: int = 1,
        passes: Sequence[Pass] = (),
        inside: NativeProgram | None = None,
    ):
        self.threads, self.passes, self.inside = threads, passes, inside
        self.graph = made_contiguous(graph)
        self.products = products
        self.views = Views()
        # name -> text of the functions that kernels and statements call; parameters and body of a kernel -> its name
        self.functions: dict[str, str] = {} if inside is None else inside.functions
        self.kernels: dict[str, str] = {} if inside is None else inside.kernels
        self.comments: dict[str, str] = {} if inside is None else inside.comments
        self.bodies: dict[int, NativeProgram | None] = {} if inside is None else inside.bodies
        self.order = schedule(self.graph)
        self.arguments = [*self.graph.inputs, *self.graph.reads.values()]
        self.roots = self.graph.roots()
        self.constants: list[Tensor] = []
        self.callbacks: list[Tensor] = []
        self.entries = {key_of(n): FIRST + i for i, n in enumerate(self.arguments)}
        self.first_root = FIRST + len(self.arguments)
        self.first_constant = self.first_root + len(self.roots)
        self.identifier, self.names = Names(), dict[int, tuple[str, Any]]()
        self.cells = [cell for cell, t in self.graph.assigns.items() if t is not None]
        self.several = {(id(n.inputs[0]), n.attrs["index"]): n for n in self.order if is_item(n)}
        self.steps = [self.step(n) for n in self.order if not self.silent(n)]
        self.fallible = any(s.fallible for s in self.steps)
        self.place_results()
        name = re.sub(r"\W", "_", graph.name, flags=re.ASCII) if re.match(r"[A-Za-z]\w*$", graph.name) else "graph"
        self.symbol = f"run_{name}"
        if inside is None:
            self.source = self.text()
        elif not self.callbacks:
            self.symbol = f"body{len(self.bodies)}_{name}"
            self.source = self.function(self.statements())

    def inner(self, graph: Graph) -> NativeProgram | None:
        """The program of a graph inside of this one: a function in the same text. None if a part of it has no C."""
        if id(graph) not in self.bodies:
            optimized, _ = optimize(graph, self.passes)
            body = NativeProgram(
                optimized, products=self.products, threads=self.threads, passes=self.passes, inside=self
            )
            self.bodies[id(graph)] = None if body.callbacks else body
        return self.bodies[id(graph)]

    # ---------------------------------------------------------------------------------------------------------- steps
    def silent(self, n: Tensor) -> bool:
        """Whether a node needs no step: it only looks at memory."""
        return is_item(n) or (is_view(n) and self.viewable(n))

    def viewable(self, n: Tensor) -> bool:
        return self.views.look(n) is not None if type(n.value) is tuple else self.views[n] is not None

    def base(self, x: Tensor) -> Tensor:
        view = self.views[x] if is_view(x) and type(x.value) is not tuple else None
        return x if view is None else view.base

    def step(self, n: Tensor) -> Step:
        count = len(n.value) if type(n.value) is tuple else 1
        writes = tuple([(id(n), i) for i in range(count)])
        if type(n.value) is not tuple or n.op is FUSED:
            kernel = self.kernel(n)
            if kernel is not None:
                return Step(n, "kernel", tuple(self.outer(n, b) for b in kernel.given), writes, kernel.checks, kernel)
        if n.op.name in WRITERS and (self.products or n.op.name != "matmul") and all(in_memory(x) for x in n.inputs):
            statement = WRITERS[n.op.name](n, self.views)
            if statement is not None:
                self.functions |= statement.functions
                reads = tuple(self.base(x) for x in n.inputs)
                return Step(n, "statement", reads, writes, statement.fallible, statement)
        if n.op.name in NESTED and all(map(in_memory, n.inputs)):
            found = nested(self, n)
            if found is not None:
                statement, fallible, constants = found
                self.functions |= statement.functions
                return Step(n, "statement", (*map(self.base, n.inputs), *constants), writes, fallible, statement)
        if nothing_to_do(n):
            return Step(n, "statement", (), writes, False, Statement(";", {}))
        self.callbacks.append(n)
        return Step(n, "callback", tuple(self.base(x) for x in n.inputs), writes, True, len(self.callbacks) - 1)

    def kernel(self, n: Tensor) -> KernelText | None:
        """The kernel of a node, rendered, or None if a part of it has no C."""
        if n.op is FUSED:
            body = n.attrs["body"]
            kernel, members, outputs = Kernel(Views()), body.operations, list(body.outputs)
        else:
            kernel, members, outputs = Kernel(self.views), (n,), [n]
        for m in members:
            if (m is n or not is_view(m)) and not kernel.accepts(m):
                return None
        writer = Writer()
        text = text_of(kernel, outputs, writer, self.threads)
        try:
            text.text = text.render()
        except Unsupported:
            return None
        self.functions |= writer.functions
        return text

    def outer(self, n: Tensor, given: Tensor) -> Tensor:
        """The node of the graph that a kernel's body knows as the leaf `given`."""
        if n.op is not FUSED:
            return given
        for inner, x in zip(n.attrs["body"].inputs, n.inputs, strict=True):
            if inner is given:
                return x
        return given  # a constant

    # --------------------------------------------------------------------------------------------------------- memory
    def place_results(self) -> None:
        """Decide where every result lies."""
        writer = {key: i for i, s in enumerate(self.steps) for key in s.writes}
        last_use = dict(writer)
        readers: dict[Key, list[int]] = {}
        for i, s in enumerate(self.steps):
            for b in s.reads:
                last_use[key_of(b)] = i
                readers.setdefault(key_of(b), []).append(i)
        last_fallible = max([i for i, s in enumerate(self.steps) if s.fallible], default=-1)
        outputs = len(self.graph.outputs)
        old = {id(cell): key_of(n) for cell, n in self.graph.reads.items()}
        self.copies: list[tuple[int, Tensor]] = []  # (number of a root, what is copied to it at the end)
        claimed: set[Key] = set()
        for k, root in enumerate(self.roots):
            view = self.views[root]
            key = key_of(self.base(root))
            direct = (
                view is not None and key in writer and key not in claimed and view.offset == 0
                and view.strides == contiguous(root.shape) and root.size == view.base.size
            )  # fmt: skip
            if direct and k >= outputs:
                at = writer[key]
                before = old.get(id(self.cells[k - outputs]))
                direct = at > last_fallible and all(
                    i < at or (i == at and self.same_point(self.steps[i], key, before))
                    for i in readers.get(before, ())  # type: ignore[arg-type]
                )
            if direct:
                claimed.add(key)
                self.entries[key] = self.first_root + k
            else:
                self.copies.append((k, root))
                last_use[key] = len(self.steps)
        kept = [key for key in writer if key not in self.entries]
        sizes = {(id(n), i): spec_of(v).nbytes for n in self.order
                 for i, v in enumerate(n.value if type(n.value) is tuple else (n.value,))}  # fmt: skip
        taken = self.taken_over(set(kept), last_use, sizes)
        first: dict[Key, Key] = {}  # what has a place in the arena -> whose place it is
        ends: dict[Key, int] = {}
        for key in kept:
            owner = first[key] = first[taken[key]] if key in taken else key
            ends[owner] = max(ends.get(owner, 0), last_use[key])
        lives = [(writer[key], end, sizes[key]) for key, end in ends.items()]
        wanted = {i: size for i, s in enumerate(self.steps) if (size := self.scratch_of(s))}
        hungry = list(wanted)
        found, self.arena = place([*lives, *[(i, i, size) for i, size in wanted.items()]])
        offsets = dict(zip(ends, found, strict=False))
        self.offsets = {key: offsets[owner] for key, owner in first.items()}
        self.scratch = {id(self.steps[i].node): at for i, at in zip(hungry, found[len(ends) :], strict=True)}
        buffers = [
            Buffer(self.steps[writer[key]].node, sizes[key], writer[key], last_use[key], self.offsets.get(key),
                   self.steps[writer[taken[key]]].node if key in taken else None)
            for key in writer
        ]  # fmt: skip
        self.memory = MemoryPlan(buffers, self.arena, *peaks(buffers, self.arena, len(self.steps)))

    def taken_over(self, kept: set[Key], last_use: dict[Key, int], sizes: dict[Key, int]) -> dict[Key, Key]:
        """For results of kernels: the result in whose place they are written, point by point, since it ends there."""
        taken: dict[Key, Key] = {}
        over: set[Key] = set()
        for i, s in enumerate(self.steps):
            if s.kind != "kernel":
                continue
            for key, output in zip(s.writes, s.detail.outputs, strict=True):
                dtype = s.detail.kernel.members[output].node.dtype
                for b in s.reads:
                    old = key_of(b)
                    if (
                        key in kept and old in kept and old not in over
                        and last_use[old] == i and sizes[old] == sizes[key] and b.dtype == dtype
                        and self.same_point(s, key, old)
                    ):  # fmt: skip
                        taken[key] = old
                        over.add(old)
                        break
        return taken

    def scratch_of(self, s: Step) -> int:
        """Bytes that a step needs for itself."""
        if s.kind == "statement":
            return int(s.detail.scratch)
        if s.kind == "kernel" and s.detail.split is not None:
            return (self.threads - 1) * sum(-(-m.node.nbytes // 64) * 64 for m in s.detail.members if m.role == "end")
        return 0

    def same_point(self, step: Step, written: Key, read: Key | None) -> bool:
        """Whether a kernel reads an old value only at the point where it writes a new one, and not after that."""
        if step.kind != "kernel":
            return False
        text: KernelText = step.detail
        inner = {id(b) for b in text.given if key_of(self.outer(step.node, b)) == read}
        outputs = step.node.attrs["body"].outputs if step.node.op is FUSED else (step.node,)
        new = text.kernel.members[id(outputs[written[1]])]
        if new.role != "each" or any(m.search is not None and id(m.search.start.base) in inner for m in text.members):
            return False
        last = text.last_phases()
        return all(
            a.offset == 0 and a.steps == new.place.steps and last[id(m.node)] <= text.level[id(new.node)]
            for m in text.members for a in m.operands if id(a.base) in inner
        )  # fmt: skip

    # ----------------------------------------------------------------------------------------------------------- text
    def address(self, base: Tensor) -> str:
        """The C expression for the memory of something: a typed pointer."""
        return self.address_of(key_of(base), base.dtype, base)

    def address_of(self, key: Key, dtype: Any, base: Tensor | None = None) -> str:
        if key in self.offsets:
            return f"({pointee(dtype)} *)(arena + {self.offsets[key]})"
        name, given = self.named(self.entry_of(key, base))
        return name if given == dtype else f"({pointee(dtype)} *){name}"

    def place_of(self, key: Key, base: Tensor | None = None) -> str:
        """The same as a `char *`."""
        if key in self.offsets:
            return f"arena + {self.offsets[key]}"
        return f"(char *){self.named(self.entry_of(key, base))[0]}"

    def entry_of(self, key: Key, base: Tensor | None) -> int:
        """Where the table has something that is not in the arena; constants are entered when they are met."""
        if key not in self.entries:
            assert base is not None
            assert base.op is None, base
            self.entries[key] = self.first_constant + len(self.constants)
            self.constants.append(base)
        return self.entries[key]

    def named(self, entry: int) -> tuple[str, Any]:
        """What an entry of the table is called in the text, and its dtype."""
        if entry not in self.names:
            if entry < self.first_root:
                n = self.arguments[entry - FIRST]
                wish = n.name or f"input{entry - FIRST}"
            elif entry < self.first_constant:
                k, outputs = entry - self.first_root, len(self.graph.outputs)
                n = self.roots[k]
                wish = f"result{k}" if k < outputs else f"new_{self.cells[k - outputs].name or 'variable'}"
            else:
                n = self.constants[entry - self.first_constant]
                wish = n.name or f"constant{entry - self.first_constant}"
            self.names[entry] = (self.identifier(wish), n.dtype)
        return self.names[entry]

    def declarations(self) -> list[str]:
        """C that gives the entries of the table their names and types."""
        lines = []
        for entry, (name, dtype) in sorted(self.names.items()):
            data = f"DATA(p[{entry}])" if self.inside is None else f"p[{entry}]"
            kind = pointee(dtype)
            lines.append(f"  {kind} *{name} = {data if kind == 'char' else f'({kind} *){data}'};{self.note(entry)}")
        return lines

    def note(self, entry: int) -> str:
        """What an argument is, as a comment."""
        if entry >= self.first_root:
            return ""
        n = self.arguments[entry - FIRST]
        return f"  // {n.name or 'input'}: {spec_of(n.value)!r}"

    def name_of(self, step: Step) -> str:
        """The name of a kernel, the same for kernels that have the same text."""
        text: KernelText = step.detail
        if text.text not in self.kernels:
            members = [m.node.op.name for m in text.members]
            words = members if len(members) < 4 else [*members[:2], members[-1]]
            self.kernels[text.text] = f"k{len(self.kernels)}_{'_'.join(words)}"
            self.comments[text.text] = "\n".join(
                f"// {m.node.op.name}{'' if m.node.site is None else f'  {m.node.site}'}" for m in text.members[:40]
            )
        return self.kernels[text.text]

    def statement(self, s: Step) -> str:
        if s.kind == "callback":
            return f"if (((int (*)(int))p[{CALLBACK}])({s.detail})) return {FAILED};"
        values = s.node.value if type(s.node.value) is tuple else (s.node.value,)
        results = [self.address_of(key, spec_of(v).dtype) for key, v in zip(s.writes, values, strict=True)]
        if s.kind == "statement":
            names = {f"in{i}": self.address(b) for i, b in enumerate(s.reads)}
            names |= {f"out{i}": text for i, text in enumerate(results)}
            names |= {f"at{i}": self.place_of(key_of(b), b) for i, b in enumerate(s.reads)}
            names |= {f"to{i}": self.place_of(key) for i, key in enumerate(s.writes)}
            scratch = self.scratch.get(id(s.node), 0)
            text = str(s.detail.text.format(**names, scratch=scratch, t=f"(float *)(arena + {scratch})"))
            return f"{text}\n  if (status) return status;" if s.fallible else text
        given = [*[self.address(b) for b in s.reads], *results]
        if s.fallible:
            given.append("&status")
        if s.detail.split is not None:
            call = self.shared(s, given)
        else:
            span = [] if s.detail.ranged is None else ["0", str(s.detail.ranged.size)]
            call = f"{self.name_of(s)}({', '.join([*given, *span])});"
        return f"{call}\n  if (status) return {OUT_OF_RANGE};" if s.fallible else call

    def shared(self, s: Step, given: list[str]) -> str:
        """The call of a kernel by several threads. What they gather is gathered apart and put together in order, so
        that the result does not depend on who is first."""
        text: KernelText = s.detail
        assert text.split is not None
        n, threads, at = text.split.size, self.threads, self.scratch.get(id(s.node), 0)
        first_output = len(text.given)
        after = []
        outputs = {id(m.node): m for m in text.members}
        for j, key in enumerate(text.outputs):
            m = outputs[key]
            if m.role != "end":
                continue
            kind, size = c_type(m.node.dtype), -(-m.node.nbytes // 64) * 64
            target = given[first_output + j]
            given[first_output + j] = f"t ? ({kind} *)(arena + {at} + (t - 1) * {size}) : {target}"
            for t in range(1, threads):
                part = f"(({kind} *)(arena + {at + (t - 1) * size}))[z]"
                after.append(
                    f"  for (long z = 0; z < {m.node.size}; z++) {combination(m.node, f'({target})[z]', part)}"
                )
            at += (threads - 1) * size
        given = [*given, f"{n}L * t / {threads}", f"{n}L * (t + 1) / {threads}"]
        lines = [
            "",
            f"  #pragma omp parallel for num_threads({threads}) schedule(static)",
            f"  for (int t = 0; t < {threads}; t++) {self.name_of(s)}({', '.join(given)});",
        ]
        return "\n".join([*lines, *after])

    @property
    def parallel(self) -> bool:
        """Whether any step is done by several threads."""
        return "#pragma omp parallel" in self.source

    def statements(self, *, timed: bool = False) -> list[str]:
        """The C lines of the steps, and of the copies at the end."""
        body = []
        if timed:
            body.append(f"  double *spent = (double *)p[{CLOCK}], start;")
        for i, s in enumerate(self.steps):
            note = repr(spec_of(s.node.value)) if type(s.node.value) is not tuple else ""
            where = f"  {s.node.scope}" if s.node.scope else ""
            statement = self.statement(s)
            if timed:
                statement = f"start = now(); {statement} spent[{i}] += now() - start;"
            body.append(f"  {statement}  // {s.node.op.name} {note}{where}".rstrip())
        for k, root in self.copies:
            view = self.views[root]
            assert view is not None
            if root.nbytes:
                source = f"(char *)({self.address(view.base)}) + {view.offset * root.dtype.itemsize}"
                body.append(f"  memcpy({self.named(self.first_root + k)[0]}, {source}, {root.nbytes});")
        return [*self.declarations(), *body]

    def function(self, body: Sequence[str]) -> str:
        """The function of a nested program."""
        head = [f"static int {self.symbol}(char **p) {{", f"  char *arena = p[{ARENA}];", "  int status = 0;"]
        return "\n".join([*head, *body, "  (void)arena, (void)status;", f"  return {OK};", "}", ""])

    def text(self, *, timed: bool = False) -> str:
        """The C text; `timed`: each step adds the nanoseconds that it took to an array of doubles."""
        body = self.statements(timed=timed)
        parts = [PRELUDE.format(head=object.__basicsize__), TIMER if timed else ""]
        if len(self.steps) > LONG:
            parts.append(CALLS_ONLY)
        parts += [text.strip() + "\n" for text in self.functions.values()]
        parts += [
            f"{self.comments[t]}\nstatic __attribute__((noinline)) void {name}{t}" for t, name in self.kernels.items()
        ]
        parts += [b.source for b in self.bodies.values() if b is not None]
        head = [f"int {self.symbol}(char **p) {{", f"  char *arena = p[{ARENA}];", "  int status = 0;"]
        if self.arguments:
            last = FIRST + len(self.arguments)
            head.append(f"  for (int i = {FIRST}; i < {last}; i++)")
            head.append(f"    if ((FLAGS(p[i]) & {CONTIGUOUS:#x}) != {CONTIGUOUS:#x}) return {NOT_CONTIGUOUS};")
        end = ["  (void)arena, (void)status;", f"  return {OK};", "}", ""]
        if any(name.startswith("product") for name in self.functions):
            end.append(ONE_POOL.format(name=self.symbol, get=BLAS_THREADS, put=SET_BLAS_THREADS))
            head[0] = f"static {'CALLS_ONLY ' if len(self.steps) > LONG else ''}int run(char **p) {{"
        return "\n".join([*parts, *head, *body, *end])
