"""A whole graph as CUDA C: its functions, and the order in which they are launched.

The graph is compiled as if it were on the CPU: the same passes, the same fusion, the same memory plan; what a kernel
becomes is in `cuda_kernels`. Everything else is a call of the operation's own code on CuPy, above all matrix products,
which are cuBLAS's. So the program is a list of segments: launches in a row, and calls between them.

No function may write a variable after another one has refused an index: a step that fails changes nothing. All
functions of a step are under way before anybody can look, so those that write variables look for themselves:
`if (*status) return`.
"""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

from ..backend import Device, cpu, device_of, transfer
from ..graph import Graph, copy_node
from ..op import Spec, spec_of
from ..tensor import Tensor
from ..variable import INPUT, leaf
from .cuda_kernels import PRELUDE, CudaKernel, CudaWriter, Launch, on_device
from .cuda_random import random
from .expressions import Unsupported
from .loops import Kernel, View, Views, contiguous, is_view
from .nested import rounded
from .passes.fuse import FUSED
from .program import Key, NativeProgram, Step, key_of, nothing_to_do

GUARD = "  if (*status) return;  // an index was refused: change nothing\n"


class Place(NamedTuple):
    """Where something lies: so many bytes into the arena, or in an array of the table; or the status (neither)."""

    offset: int | None = None
    entry: int | None = None


class Start(NamedTuple):
    """One launch: the function's name, the grid, and where its arguments lie."""

    name: str
    blocks: int
    threads: int
    arguments: tuple[Place, ...]


class Operand(NamedTuple):
    """An input of a call: where its memory is, and how it looks at it."""

    place: Place
    size: int
    view: View
    like: Tensor


class Call(NamedTuple):
    """An operation that runs by its own code; `results`: where they are to be put."""

    node: Tensor
    operands: tuple[Operand, ...]
    results: tuple[tuple[Place, Spec], ...]


class Split(NamedTuple):
    """A graph in two: what is computed on the CPU beforehand, and what is computed on the GPU.

    Attributes:
        front: on the CPU; its outputs are what moves to the GPU, and then the outputs that stay. None: nothing.
        back: on the GPU, written as if it were on the CPU; its inputs are those on the GPU, and then what moves there.
        inputs: for each input of the whole, whether it is one of `front`. outputs: the same for outputs.
        moving: how many results of `front` move. device: the GPU.
    """

    front: Graph | None
    back: Graph
    inputs: tuple[bool, ...]
    outputs: tuple[bool, ...]
    moving: int
    device: Device


def place_of(n: Tensor) -> Device:
    """The device of a node's result, or of its first one."""
    value = n.value[0] if type(n.value) is tuple else n.value
    return value.device if type(value) is Spec else device_of(value)


def moves(n: Tensor) -> bool:
    """Whether a node moves its operand from the CPU to a GPU."""
    return n.op is not None and n.op.name == "to_device" and place_of(n.inputs[0]) == cpu and place_of(n) != cpu


def gpu_of(graph: Graph) -> Device | None:
    """The one GPU on which a graph computes, after some numbers perhaps that are computed on the CPU and move there
    (the step size of an optimiser); None if it computes elsewhere, or to and fro."""
    places = {id(n): place_of(n) for n in graph.nodes}
    gpus = set(places.values()) - {cpu}
    mixed = any(places[id(x)] != places[id(n)] for n in graph.nodes if not moves(n) for x in n.inputs)
    return gpus.pop() if len(gpus) == 1 and not mixed and all(d.kind == "cuda" for d in gpus) else None


def split(graph: Graph) -> Split:
    """Take a graph apart. Constants on the GPU are copied to the CPU, where passes may compute with them."""

    def here(value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(here, value))
        return Spec(value.shape, value.dtype) if type(value) is Spec else transfer(value, cpu)

    def in_front(t: Tensor | None) -> bool:
        return t is not None and place_of(t) == cpu

    moved, names = [n for n in graph.nodes if moves(n)], count()
    new: dict[int, Tensor] = {}
    for n in graph.nodes:
        if in_front(n):
            continue
        if moves(n):
            name = n.name or f"from_cpu{next(names)}"
            new[id(n)] = leaf(INPUT, here(n.value), {"name": name}, name=name)
        else:
            new[id(n)] = copy_node(n, [new[id(x)] for x in n.inputs])
            new[id(n)].value = here(n.value)
    back = Graph(
        new.values(),
        [new[id(n)] for n in (*[x for x in graph.inputs if not in_front(x)], *moved)],
        [new[id(n)] for n in graph.outputs if not in_front(n)],
        reads={cell: new[id(n)] for cell, n in graph.reads.items() if not in_front(n)},
        assigns={cell: None if t is None else new[id(t)] for cell, t in graph.assigns.items() if not in_front(t)},
        name=graph.name,
    )
    nodes = [n for n in graph.nodes if in_front(n)]
    front = Graph(
        nodes,
        [n for n in graph.inputs if in_front(n)],
        [*[n.inputs[0] for n in moved], *[n for n in graph.outputs if in_front(n)]],
        reads={cell: n for cell, n in graph.reads.items() if in_front(n)},
        assigns={cell: t for cell, t in graph.assigns.items() if in_front(t)},
        name=f"{graph.name} on the CPU",
    )
    inputs, outputs = tuple(map(in_front, graph.inputs)), tuple(map(in_front, graph.outputs))
    device = next(place_of(n) for n in graph.nodes if not in_front(n))
    return Split(front if nodes else None, back, inputs, outputs, len(moved), device)


class CudaProgram(NativeProgram):
    """The plan of a graph on a GPU.

    Attributes:
        source: the CUDA C text, which begins with the list of segments.
        segments: lists of launches, and calls between them, in order.
        finals: entries of the table, and what is copied there at the end.
        guarded: whether a kernel may refuse an index.
    """

    def __init__(self, graph: Graph):
        self.segments: list[list[Start] | Call] = []
        self.finals: list[tuple[int, Operand]] = []
        super().__init__(graph, products=False)

    @property
    def guarded(self) -> bool:
        return any(s.kind == "kernel" and s.detail.checks for s in self.steps)

    # ---------------------------------------------------------------------------------------------------------- steps
    def step(self, n: Tensor) -> Step:
        count = len(n.value) if type(n.value) is tuple else 1
        writes = tuple([(id(n), i) for i in range(count)])
        if nothing_to_do(n):
            return Step(n, "nothing", (), writes, False)
        kernel = self.cuda_kernel(n) if type(n.value) is not tuple or n.op is FUSED else None
        if kernel is not None:
            return Step(n, "kernel", tuple([self.outer(n, b) for b in kernel.given]), writes, kernel.checks, kernel)
        draw = random(n, self.views[n.inputs[0]]) if len(n.inputs) == 1 and type(n.value) is not tuple else None
        if draw is not None:
            self.functions |= draw.functions
            return Step(n, "random", (self.base(n.inputs[0]),), writes, False, draw)
        self.callbacks.append(n)
        fallible = n.op.name != "matmul" or max(x.ndim for x in n.inputs) > 2  # for those CuPy may have to allocate
        return Step(n, "callback", tuple(map(self.base, n.inputs)), writes, fallible)

    def cuda_kernel(self, n: Tensor) -> CudaKernel | None:
        """The kernel of a node, or None if a part of it has no CUDA C."""
        if n.op is FUSED:
            body = n.attrs["body"]
            kernel, members, outputs = Kernel(Views()), body.operations, list(body.outputs)
        else:
            kernel, members, outputs = Kernel(self.views), (n,), [n]
        for m in members:
            if (m is n or not is_view(m)) and not kernel.accepts(m):
                return None
        writer = CudaWriter()
        try:
            found = CudaKernel(kernel, outputs, writer)
        except Unsupported:
            return None
        self.functions |= writer.functions
        return found

    def scratch_of(self, s: Step) -> int:
        return sum(map(rounded, s.detail.scratch.values())) if s.kind == "kernel" else 0

    def same_point(self, step: Step, written: Key, read: Key | None) -> bool:
        """Whether a variable's new value may be written over the old one, which the same kernel reads: if it consists
        of one function, in which the thread that writes an element is the only one that reads it, and has done so."""
        one = step.kind == "kernel" and len(step.detail.launches) == 1 and step.detail.phases == 1
        return one and super().same_point(step, written, read)

    # --------------------------------------------------------------------------------------------------------- places
    def where(self, key: Key, base: Tensor | None = None) -> Place:
        if key in self.offsets:
            return Place(offset=self.offsets[key])
        return Place(entry=self.entry_of(key, base))

    def operand_of(self, x: Tensor) -> Operand:
        view = self.views[x]
        if view is None:
            view = View(x, 0, contiguous(x.shape))
        return Operand(self.where(key_of(view.base), view.base), view.base.size, view, x)

    def arguments_of(self, s: Step, launch: Launch, guarded: bool) -> tuple[Place, ...]:
        """Where the arguments of a launch lie."""
        at = self.scratch.get(id(s.node), 0)
        known = {f"in{i}": self.where(key_of(b), b) for i, b in enumerate(s.reads)}
        known |= {f"out{i}": self.where(key) for i, key in enumerate(s.writes)}
        for name, nbytes in s.detail.scratch.items():
            known[name] = Place(offset=at)
            at += rounded(nbytes)
        found = [known[name] for _, name in launch.parameters]
        return tuple([*found, Place()] if launch.checks or guarded else found)

    # ----------------------------------------------------------------------------------------------------------- text
    def function_of(self, s: Step, launch: Launch, guarded: bool) -> str:
        """The name of the function of a launch; equal ones share it."""
        parameters = [f"{kind} *{name}" for kind, name in launch.parameters]
        if launch.checks or guarded:
            parameters.append("int *status")
        head = f"__launch_bounds__({launch.threads}) NAME({', '.join(parameters)})"
        text = f"{head} {{\n{GUARD if guarded else ''}{on_device(launch.body)}\n}}\n"
        if text not in self.kernels:
            ops = [c.split("  ")[0] for c in launch.comments]
            words = ops if len(ops) < 4 else [*ops[:2], ops[-1]]
            self.kernels[text] = f"k{len(self.kernels)}_{launch.shape}_{'_'.join(words)}"
            self.comments[text] = (
                f"// {launch.shape}: {', '.join(ops if len(ops) < 9 else [*ops[:4], '...', *ops[-3:]])}"
            )
        return self.kernels[text]

    def plan_segments(self) -> list[str]:
        """Fill `segments` and `finals`; the list of segments, as comments."""
        self.segments.clear()
        self.finals = [(self.first_root + k, self.operand_of(root)) for k, root in self.copies]
        lines = []
        changing = set(range(self.first_root + len(self.graph.outputs), self.first_constant))
        for s in self.steps:
            note = repr(spec_of(s.node.value)) if type(s.node.value) is not tuple else ""
            place = f"  {s.node.scope}" if s.node.scope else ""
            if s.kind == "callback":
                values = s.node.value if type(s.node.value) is tuple else (s.node.value,)
                results = [(self.where(key), spec_of(v)) for key, v in zip(s.writes, values, strict=True)]
                self.segments.append(Call(s.node, tuple(map(self.operand_of, s.node.inputs)), tuple(results)))
                lines.append(f"//   CuPy  {s.node.op.name} {note}{place}".rstrip())
            elif s.kind != "nothing":
                if not self.segments or isinstance(self.segments[-1], Call):
                    self.segments.append([])
                    lines.append("//   graph")
                run = self.segments[-1]
                assert isinstance(run, list)
                roots = {self.entries.get(key) for key in s.writes} & changing
                guarded = self.guarded and bool(roots)
                for launch in s.detail.launches:
                    name = self.function_of(s, launch, guarded)
                    run.append(Start(name, launch.blocks, launch.threads, self.arguments_of(s, launch, guarded)))
                    lines.append(f"//     {name}<<<{launch.blocks}, {launch.threads}>>>  {note}{place}".rstrip())
        return lines

    def text(self, *, timed: bool = False) -> str:
        """The CUDA C text."""
        plan = self.plan_segments()
        rule = "// One step: launches in a row are replayed as one CUDA graph; CuPy runs what stands between them."
        head = [rule, *plan]
        functions = [text.strip() + "\n" for text in self.functions.values()]
        kernels = [
            f'{self.comments[text]}\nextern "C" __global__ void {text.replace("NAME", name, 1)}'
            for text, name in self.kernels.items()
        ]
        return "\n".join(["\n".join(head) + "\n", PRELUDE, *functions, *kernels])
