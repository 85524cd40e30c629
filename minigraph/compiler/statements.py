"""Statements: operations whose C is not a loop over an expression.

A writer looks at a node and gives the C statement that computes it, with the functions that it calls and the scratch
memory that it needs, or None where it knows no C (another type, another layout): then the operation runs by its own
code. `WRITERS` says who writes which operation; matrix products are here, convolutions in `convolution`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..tensor import Tensor
from .loops import Views, contiguous
from .threads import WORTH, threads


class Statement(NamedTuple):
    """C for one operation.

    Attributes:
        text: the statement. `{in0}` is the address of the memory that input 0 looks at (its view's base), `{out0}` that
            of the first result, `{t}` that of the scratch memory; all are typed pointers. `{at0}` and `{to0}` are the
            same as `char *`, and `arena + {scratch}` is the scratch memory. `p` is the table.
        functions: {name: C text} of what it calls.
        scratch: bytes.
        fallible: whether it may set `status`, because of a wrong index.
    """

    text: str
    functions: dict[str, str]
    scratch: int = 0
    fallible: bool = False


Writer = Callable[[Tensor, Views], Statement | None]
WRITERS: dict[str, Writer] = {}
# entries of the table that each function gets, before the addresses of its arguments, results and constants
ARENA, SGEMM, DGEMM, BLAS_THREADS, SET_BLAS_THREADS, CALLBACK, CLOCK, FIRST = range(8)
OK, NOT_CONTIGUOUS, OUT_OF_RANGE, FAILED = range(4)  # what a function returns


def writes(*names: str) -> Callable[[Writer], Writer]:
    """Enter a writer into the table, for the named operations."""

    def enter(writer: Writer) -> Writer:
        for name in names:
            WRITERS[name] = writer
        return writer

    return enter


# --------------------------------------------------------------------------------------------------- matrix products

PRODUCT = """
/* c = a @ b for matrices in rows, by BLAS; ta, tb: the matrix lies in memory by columns. */
static void {name}(char **p, int ta, int tb, long m, long n, long k, const {T} *a, long lda, const {T} *b, long ldb,
                   {T} *c, long ldc) {{
  typedef void gemm(int, int, int, int64_t, int64_t, int64_t, {T}, const {T} *, int64_t, const {T} *, int64_t, {T},
                    {T} *, int64_t);
  ((gemm *)p[{entry}])(101, ta ? 112 : 111, tb ? 112 : 111, m, n, k, 1, a, lda, b, ldb, 0, c, ldc);
}}
"""
TRANSPOSE = """
/* out = b transposed, in blocks of 8 by 8 that stay in registers. */
static void transpose_f32(const float *b, long rows, long columns, long ld, float *out) {
  typedef float v8 __attribute__((vector_size(32), aligned(4)));
  typedef int i8 __attribute__((vector_size(32)));
  for (long i = 0; i < rows; i += 8)
    for (long j = 0; j < columns; j += 8) {
      if (i + 8 > rows || j + 8 > columns) {
        for (long y = i; y < rows && y < i + 8; y++)
          for (long x = j; x < columns && x < j + 8; x++) out[x * rows + y] = b[y * ld + x];
        continue;
      }
      v8 r[8], t[8];
      for (int k = 0; k < 8; k++) r[k] = *(const v8 *)(b + (i + k) * ld + j);
      for (int k = 0; k < 8; k += 2) {
        t[k] = __builtin_shuffle(r[k], r[k + 1], (i8){0, 8, 2, 10, 4, 12, 6, 14});
        t[k + 1] = __builtin_shuffle(r[k], r[k + 1], (i8){1, 9, 3, 11, 5, 13, 7, 15});
      }
      for (int q = 0; q < 8; q += 4)
        for (int k = q; k < q + 2; k++) {
          r[k] = __builtin_shuffle(t[k], t[k + 2], (i8){0, 1, 8, 9, 4, 5, 12, 13});
          r[k + 2] = __builtin_shuffle(t[k], t[k + 2], (i8){2, 3, 10, 11, 6, 7, 14, 15});
        }
      for (int k = 0; k < 4; k++) {
        t[k] = __builtin_shuffle(r[k], r[k + 4], (i8){0, 1, 2, 3, 8, 9, 10, 11});
        t[k + 4] = __builtin_shuffle(r[k], r[k + 4], (i8){4, 5, 6, 7, 12, 13, 14, 15});
      }
      for (int k = 0; k < 8; k++) *(v8 *)(out + (j + k) * rows + i) = t[k];
    }
}
"""
RATE = 30  # multiplications in a nanosecond
UNPACKED = 1_000_000  # multiplications up to which OpenBLAS does not pack its operands at all
FEW, NARROW = 48, 64  # rows of a product that is done in strips of so many columns
SMALL = 1 << 22  # multiplications up to which OpenBLAS reads its operands where they lie


@writes("matmul")
def matmul(n: Tensor, views: Views) -> Statement | None:
    """Matrix products by BLAS; a batch of them is a loop. A transposed operand costs nothing: BLAS is told."""
    a, b = n.inputs
    if n.dtype.name not in ("float32", "float64") or a.dtype != n.dtype or b.dtype != n.dtype or not n.size:
        return None
    va, vb = views[a], views[b]
    if va is None or vb is None:
        return None
    if not a.size:  # sums of nothing
        return Statement(f"memset({{to0}}, 0, {n.nbytes});", {})
    sa = va.strides if a.ndim > 1 else (0, *va.strides)
    sb = vb.strides if b.ndim > 1 else (*vb.strides, 0)
    m, k, columns = a.shape[-2] if a.ndim > 1 else 1, a.shape[-1], b.shape[-1] if b.ndim > 1 else 1
    left, right = layout_of(m, k, *sa[-2:]), layout_of(k, columns, *sb[-2:])
    if left is None or right is None:
        return None
    batch = n.shape[: n.ndim - (a.ndim > 1) - (b.ndim > 1)]
    loops, at_a, at_b = "", [str(va.offset)], [str(vb.offset)]
    for i, size in enumerate(batch):
        for at, x, strides in ((at_a, a, sa), (at_b, b, sb)):
            axis = x.ndim - 2 - (len(batch) - i)
            if x.ndim > 2 and axis >= 0 and x.shape[axis] > 1:
                at.append(f"i{i} * {strides[axis]}")
        loops += f"for (long i{i} = 0; i{i} < {size}; i{i}++) "
    at_c = [f"i{i} * {s * m * columns}" for i, s in enumerate(contiguous(batch))]
    (ta, lda), (tb, ldb) = left, right
    a_text, b_text, c_text = plus("{in0}", at_a), plus("{in1}", at_b), plus("{out0}", at_c)
    bits = 8 * n.dtype.itemsize
    name, kind, entry = f"product_f{bits}", "float" if bits == 32 else "double", SGEMM if bits == 32 else DGEMM
    functions = {name: PRODUCT.format(name=name, T=kind, entry=entry)}
    before, after, scratch = "", "", 0
    if ta == 0 and tb == 1 and bits == 32 and m >= 16 and min(k, columns) >= 8 and m * columns * k < SMALL:
        # OpenBLAS is slower by a third in this one case: turning b round first costs less
        before, after = f"{{{{ transpose_f32({b_text}, {columns}, {k}, {ldb}, {{t}}); ", " }}"
        b_text, tb, ldb, scratch = "{t}", 0, columns, 4 * k * columns
        functions["transpose_f32"] = TRANSPOSE
    call = f"{name}(p, {ta}, {tb}, {m}, {columns}, {k}, {a_text}, {lda}, {b_text}, {ldb}, {c_text}, {columns});"
    count = threads()
    share = count > 1 and m * columns * k * math.prod(batch) > WORTH * RATE
    if not batch and tb == 0 and m <= FEW and m * NARROW * k <= UNPACKED < m * columns * k:
        # few rows: OpenBLAS would spend as long on packing b as on the product, which it does not do for narrow strips
        width = f"({NARROW} < {columns} - y ? {NARROW} : {columns} - y)"
        operands = f"{a_text}, {lda}, {b_text} + y, {ldb}, {c_text} + y, {columns}"
        pragma = f"\n  #pragma omp parallel for num_threads({count}) schedule(static)\n  " if share else ""
        strips = f"for (long y = 0; y < {columns}; y += {NARROW}) "
        return Statement(f"{pragma}{strips}{name}(p, {ta}, {tb}, {m}, {width}, {k}, {operands});", functions, scratch)
    if share:
        shared = f"\n  #pragma omp parallel for num_threads({count}) schedule(static)\n  "
        if batch and batch[0] >= count:  # each thread its products, and its scratch memory
            own = f"{{t}} + omp_get_thread_num() * {k * columns}"
            return Statement(shared + loops + before.replace("{t}", own) + call.replace("{t}", own) + after, functions,
                             scratch * count)  # fmt: skip
        if not batch and max(m, columns) >= 8 * count:  # each thread its rows, or its columns where there are more
            whole = max(m, columns)
            part = -(-whole // (16 * count)) * 16
            size_of = f"({part} < {whole} - y ? {part} : {whole} - y)"
            if m >= columns:
                high, wide = size_of, str(columns)
                a_text += " + y" if ta else f" + y * {lda}"
                c_text += f" + y * {columns}"
            else:
                high, wide = str(m), size_of
                b_text += f" + y * {ldb}" if tb else " + y"
                c_text += " + y"
            operands = f"{a_text}, {lda}, {b_text}, {ldb}, {c_text}, {columns}"
            call = f"{name}(p, {ta}, {tb}, {high}, {wide}, {k}, {operands});"
            return Statement(
                f"{before}{shared}for (long y = 0; y < {whole}; y += {part}) {call}{after}", functions, scratch
            )
    return Statement(loops + before + call + after, functions, scratch)


def plus(base: str, parts: Sequence[str]) -> str:
    """`base + i * 4`: the address without what is 0."""
    return " + ".join([base, *[p for p in parts if p != "0" and not p.endswith(" * 0")]])


def layout_of(rows: int, columns: int, down: int, across: int) -> tuple[int, int] | None:
    """How BLAS can read a matrix with these strides: (0 by rows or 1 by columns, distance), or None."""
    if (across == 1 or columns == 1) and (down >= columns or rows == 1):
        return 0, max(down if rows > 1 else columns, columns, 1)
    if (down == 1 or rows == 1) and (across >= rows or columns == 1):
        return 1, max(across if columns > 1 else rows, rows, 1)
    return None
