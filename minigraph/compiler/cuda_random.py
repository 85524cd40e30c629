"""Random numbers in CUDA C: the generator of `backend/philox.py`, one thread for each step of its counter.

A step of the counter makes eight 32-bit words, which are eight numbers or four. What a number becomes is written as in
`randomness`, so the bits are those of dynamic mode. Normal numbers come in pairs that lie half an array apart (Box and
Muller): a thread makes both, from two steps.
"""

from __future__ import annotations

import math

from ..backend.philox import MULTIPLIERS, WEYL
from ..tensor import Tensor
from .cuda_kernels import THREADS, CudaWriter, Launch, blocks_for, note, on_device, stride
from .expressions import c_type, literal
from .loops import DTYPES, View
from .randomness import WORD64, unit

WORDS = f"""
/* The eight 32-bit words of a step of the counter (Philox4x64-10). */
static __device__ void random_words(uint64_t key, uint64_t counter, uint64_t block, uint32_t *w) {{
  uint64_t c0 = counter + block, c1 = c0 < counter, c2 = 0, c3 = 0, k0 = key, k1 = 0;
  for (int round = 0; round < 10; round++) {{
    uint64_t a = __umul64hi({MULTIPLIERS[0]:#x}ULL, c0), b = __umul64hi({MULTIPLIERS[1]:#x}ULL, c2);
    uint64_t low_a = {MULTIPLIERS[0]:#x}ULL * c0, low_b = {MULTIPLIERS[1]:#x}ULL * c2;
    c0 = b ^ c1 ^ k0, c1 = low_b, c2 = a ^ c3 ^ k1, c3 = low_a;
    k0 += {WEYL[0]:#x}ULL, k1 += {WEYL[1]:#x}ULL;
  }}
  uint64_t made[4] = {{c0, c1, c2, c3}};
  for (int i = 0; i < 8; i++) w[i] = (uint32_t)(made[i / 2] >> (i % 2 * 32));
}}"""


def number_of(n: Tensor) -> tuple[int, str] | None:
    """How many words an element takes, and the element, made from w[i] or from w[2 * i] and w[2 * i + 1]."""
    a, words = n.attrs or {}, n.dtype.itemsize // 4
    match n.op.name:
        case "random_bits" if words:
            return words, f"({c_type(n.dtype)}){'w[i]' if words == 1 else WORD64}"
        case "random_uniform" if n.dtype in DTYPES:
            low, high = a.get("low", 0.0), a.get("high", 1.0)
            return words, f"{unit(n.dtype, 0)} * {literal(high - low, n.dtype)} + {literal(low, n.dtype)}"
        case "random_bernoulli":
            threshold = round(a["p"] * 2.0**32)
            return 1, f"w[i] < {threshold}U" if 0 < threshold < 2**32 else str(int(threshold > 0))
        case "random_integers":
            return 2, f"({c_type(n.dtype)})({WORD64} % {a['high'] - a['low']}ULL + {a['low'] % 2**64}ULL)"
    return None


class CudaRandom:
    """A draw, or the step of a generator's state, as CUDA C: `launches` and `scratch` as of a `CudaKernel`, and the
    texts of the `functions` that are called."""

    checks = False

    def __init__(self, body: list[str], size: int, n: Tensor, writer: CudaWriter):
        self.scratch: dict[str, int] = {}
        self.functions = writer.functions
        parameters = (("const uint64_t", "in0"), (c_type(n.dtype), "out0"))
        text = on_device("\n".join(body))
        self.launches = [Launch("random", parameters, text, blocks_for(size), THREADS, False, (note(n),))]


def random(n: Tensor, state: View | None) -> CudaRandom | None:
    """The functions of a random operation, given how it looks at the memory of its state (key, counter)."""
    if state is None or n.op is None or not n.op.name.startswith("random_") or n.dtype not in DTYPES:
        return None
    writer = CudaWriter()
    key, counter = (f"in0[{state.offset + i * state.strides[0]}]" for i in range(2))
    said = f"  // {note(n)}"
    if n.op.name == "random_advance":
        return CudaRandom([f"  out0[0] = {key}, out0[1] = {counter} + {n.attrs['steps']}ULL;{said}"], 1, n, writer)
    writer.functions["random_words"] = WORDS
    if n.op.name == "random_normal":
        return CudaRandom(normal(n, key, counter, writer), up_half(n), n, writer)
    found = number_of(n)
    if found is None:
        return None
    words, number = found
    each = 8 // words
    blocks = -(-n.size // each)
    body = [
        f"  {stride('long long', 'block', blocks)} {{",
        "    uint32_t w[8];",
        f"    random_words({key}, {counter}, block, w);",
        f"    for (int i = 0; i < {each} && block * {each} + i < {n.size}; i++)",
        f"      out0[block * {each} + i] = {number};{said}",
        "  }",
    ]
    return CudaRandom(body, blocks, n, writer)


def up_half(n: Tensor) -> int:
    """Pairs of numbers."""
    return -(-n.size // 2)


def normal(n: Tensor, key: str, counter: str, writer: CudaWriter) -> list[str]:
    """Two uniform numbers make two normal ones."""
    kind, half, words = c_type(n.dtype), up_half(n), n.dtype.itemsize // 4
    sqrt, log, cos, sin = (writer.function(f, n.dtype) for f in ("sqrt", "log", "cos", "sin"))
    mean, std = (literal(n.attrs.get(name, default), n.dtype) for name, default in (("mean", 0.0), ("std", 1.0)))
    each, number = 8 // words, unit(n.dtype, 1)
    lines = [f"  {stride('long long', 'at', half)} {{", "    uint32_t w[8];"]
    for name, place in (("near", "at"), ("far", f"(at + {half})")):
        lines += [
            f"    random_words({key}, {counter}, {place} / {each}, w);",
            f"    {kind} {name};",
            f"    {{ int i = {place} % {each}; {name} = {number}; }}",
        ]
    return [
        *lines,
        f"    {kind} radius = {sqrt}({log}(near) * -2), angle = far * {literal(2 * math.pi, n.dtype)};",
        f"    out0[at] = radius * {cos}(angle) * {std} + {mean};  // {note(n)}",
        f"    if (at + {half} < {n.size}) out0[at + {half}] = radius * {sin}(angle) * {std} + {mean};",
        "  }",
    ]
