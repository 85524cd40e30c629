"""Products of tensors: matmul, the fused `linear`, einsum and its special cases, and diagonals.

Three of them are operations of their own because a graph is read and compiled in these terms: `matmul`, `linear` (a
whole fully-connected layer in one node: x Wᵀ + b) and `einsum`. The gradient of a product is a product again, so each
rule is one line in the same operations; einsum's permutes its subscripts. `tensordot`, `vecdot`, `outer`,
`vector_norm` and `trace` are spelled with other operations and need no rule.

Two-dimensional products go to `numpy.dot`, which reaches BLAS with less ceremony than `matmul`: 0.3 microseconds of
the 1.8 that a small product takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, ShapeError
from ..op import Op, Spec
from ..tensor import Tensor, bind, lift, lift_all
from .common import axes as normalized_axes
from .common import integer, need_float, number, one_axis, several, shown

__all__ = [
    "diag_embed", "diagonal", "einsum", "linear", "matmul", "outer", "tensordot", "trace", "vecdot", "vector_norm",
]  # fmt: skip

_add, _dot, _matmul = np.add, np.dot, np.matmul
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def rows(F: Any, x: Any) -> Any:
    """`x` as a matrix: all axes but the last flattened into one."""
    return x if x.ndim == 2 else F.reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))


# ---------------------------------------------------------------------------------------------------------- matmul


def _matmul_infer(x1: Spec, x2: Spec) -> Spec:
    given = f"x1: {x1!r}, x2: {x2!r}"
    if not x1.ndim or not x2.ndim:
        raise ShapeError("matmul: a 0-d tensor has no matrix product", expected="at least one axis each", actual=given,
                         remedy="multiply by a number with x1 * x2")  # fmt: skip
    inner = x2.shape[-2] if x2.ndim > 1 else x2.shape[0]
    if x1.shape[-1] != inner:
        raise ShapeError(
            "matmul: inner sizes differ",
            expected=f"x1.shape[-1] == x2.shape[{-2 if x2.ndim > 1 else 0}]",
            actual=f"{x1.shape[-1]} != {inner} ({given})",
            remedy="transpose one operand with .mT if its axes are the wrong way round",
        )
    try:
        batch = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    except ValueError:
        raise ShapeError(
            "matmul: the batch axes cannot be broadcast together",
            expected="equal sizes, or 1, on each axis before the last two",
            actual=given,
            remedy="insert an axis with mg.expand_dims",
        ) from None
    shape = batch + (x1.shape[-2:-1] if x1.ndim > 1 else ()) + (x2.shape[-1:] if x2.ndim > 1 else ())
    return Spec(shape, np.result_type(x1.dtype, x2.dtype), x1.device)


def _matmul_numpy(x1: Any, x2: Any) -> Any:
    if 0 < x1.ndim <= 2 and 0 < x2.ndim <= 2:
        return _dot(x1, x2)
    return _matmul(x1, x2)


def _matmul_into(x1: Any, x2: Any, *, out: Any) -> None:
    if 0 < x1.ndim <= 2 and 0 < x2.ndim <= 2:
        _dot(x1, x2, out)
    else:
        _matmul(x1, x2, out)


def _matmul_grad_x1(F: Any, g: Any, y: Any, x1: Any, x2: Any) -> Any:
    if x1.ndim == 2 and x2.ndim == 2:
        return F.matmul(g, x2.T)
    if x2.ndim == 1:
        return F.reshape(g, shape=(*g.shape, 1)) * x2
    if x1.ndim == 1:
        return F.matmul(x2, g) if x2.ndim == 2 else F.reshape(
            F.matmul(x2, F.reshape(g, shape=(*g.shape, 1))), shape=x2.shape[:-1]
        )  # fmt: skip
    return F.matmul(g, F.matrix_transpose(x2))


def _matmul_grad_x2(F: Any, g: Any, y: Any, x1: Any, x2: Any) -> Any:
    if x1.ndim == 2 and x2.ndim == 2:
        return F.matmul(x1.T, g)
    if x1.ndim == 1:
        if x2.ndim == 1:
            return g * x1
        return F.reshape(x1, shape=(*x1.shape, 1)) * F.reshape(g, shape=(*g.shape[:-1], 1, g.shape[-1]))
    if x2.ndim == 1:
        return F.matmul(F.reshape(g, shape=(math.prod(g.shape),)), rows(F, x1))
    if x2.ndim == 2:  # one large product instead of many small ones and their sum
        return F.matmul(rows(F, x1).T, rows(F, g))
    return F.matmul(F.matrix_transpose(x1), g)


def _matmul_flops(x1: Spec, x2: Spec) -> int:
    return 2 * _matmul_infer(x1, x2).size * x1.shape[-1]


def _matmul_samples(rng: np.random.Generator) -> Iterator:
    def x(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    yield (x(2, 3), x(3, 4)), {}
    yield (x(3), x(3)), {}
    yield (x(2, 3), x(3)), {}
    yield (x(3), x(3, 2)), {}
    yield (x(2, 2, 3), x(3)), {}
    yield (x(3), x(2, 3, 2)), {}
    yield (x(2, 2, 3), x(3, 2)), {}
    yield (x(2, 3), x(2, 3, 2)), {}
    yield (x(2, 1, 2, 3), x(3, 3, 1)), {}
    yield (x(4, 3).T[:2].T.T, x(8, 2)[::2]), {}
    yield (x(0, 3), x(3, 2)), {}
    yield (x(2, 0), x(0, 3)), {}
    yield (x(0), x(0)), {}
    yield (x(0, 2, 3), x(3, 2)), {}
    yield (x(2, 3).astype("f4"), x(3, 4)), {}
    yield (np.arange(6).reshape(2, 3), np.arange(3)), {}
    yield (np.arange(6).reshape(2, 3), x(3, 2)), {}
    yield "bad", (x(2, 3), x(2, 3)), {}, ShapeError
    yield "bad", (x(), x(3)), {}, ShapeError
    yield "bad", (x(2, 3, 4), x(3, 4, 5)), {}, ShapeError


MATMUL = Op(
    "matmul",
    run=lambda xp, x1, x2: xp.matmul(x1, x2),
    numpy=_matmul_numpy,
    into=_matmul_into,
    infer=_matmul_infer,
    vjp=(_matmul_grad_x1, _matmul_grad_x2),
    saves=("x1", "x2"),
    latex=r"{x1}\,{x2}",
    derivative=(r"\bar y\,{x2}^\top", r"{x1}^\top \bar y"),
    flops=_matmul_flops,
    samples=_matmul_samples,
)


def matmul(x1: Any, x2: Any) -> Tensor:
    """The matrix product, also written `x1 @ x2`.

    Args:
        x1: shape (..., m, k), or (k,) for a row vector.
        x2: shape (..., k, n), or (k,) for a column vector. The leading (batch) axes broadcast.

    Returns:
        shape (..., m, n), without m or n where the operand is a vector; the promoted dtype.

    Raises:
        ShapeError: an operand is 0-d, the inner sizes differ, or the batch axes do not broadcast.

    >>> mg.matmul(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), mg.tensor([1.0, 10.0]))
    tensor([21., 43.], dtype=float32)
    """
    return bind(MATMUL, *lift_all(x1, x2))


# ---------------------------------------------------------------------------------------------------------- linear


def _linear_infer(x: Spec, weight: Spec, bias: Spec | None = None) -> Spec:
    given = f"x: {x!r}, weight: {weight!r}" + (f", bias: {bias!r}" if bias else "")
    if weight.ndim != 2:
        raise ShapeError("linear: weight is a matrix", expected="shape (out_features, in_features)", actual=given)
    if not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ShapeError("linear: x and weight do not fit", expected="x.shape[-1] == weight.shape[1] (in_features)",
                         actual=f"{x.shape[-1] if x.ndim else '()'} != {weight.shape[1]} ({given})",
                         remedy="flatten or transpose x so that its last axis holds the features")  # fmt: skip
    if bias and bias.shape != weight.shape[:1]:
        raise ShapeError(
            "linear: bias does not fit", expected=f"shape {weight.shape[:1]} (out_features,)", actual=given
        )
    dtypes = [s.dtype for s in (x, weight, bias) if s]
    return Spec((*x.shape[:-1], weight.shape[0]), np.result_type(*dtypes), x.device)


def _linear_run(xp: Any, x: Any, weight: Any, bias: Any = None) -> Any:
    if weight.ndim != 2 or x.ndim != 2:
        if weight.ndim != 2 or x.ndim == 0:
            raise ValueError("weight is a matrix, x has at least one axis")  # `infer` says it better
        y = xp.dot(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), weight.T)
        y = y.reshape(*x.shape[:-1], weight.shape[0])
    else:
        y = xp.dot(x, weight.T)
    if bias is None:
        return y
    if bias.shape != weight.shape[:1]:
        raise ValueError("bias does not fit")
    if bias.dtype is not y.dtype:
        return y + bias
    y += bias  # y is fresh
    return y


def _linear_numpy(x: Any, weight: Any, bias: Any = None) -> Any:
    if x.ndim == 2 == weight.ndim:  # spelled out: most layers of a program come this way
        y = _dot(x, weight.T)
        if bias is None:
            return y
        if bias.dtype is y.dtype and bias.shape == weight.shape[:1]:
            return _add(y, bias, y)
    return _linear_run(np, x, weight, bias)


def _linear_into(x: Any, weight: Any, bias: Any = None, *, out: Any) -> None:
    if x.dtype != out.dtype or weight.dtype != out.dtype:  # BLAS computes in one dtype
        out[...] = _linear_numpy(x, weight, bias)
        return
    if x.ndim > 2:
        n = math.prod(x.shape[:-1])
        _dot(x.reshape(n, x.shape[-1]), weight.T, out.reshape(n, weight.shape[0]))
    else:
        _dot(x, weight.T, out)
    if bias is not None:
        out += bias


def _linear_grad(
    F: Any, needs: Sequence[bool], g: Any, y: Any, x: Any, weight: Any, bias: Any = None
) -> tuple[Any, ...]:
    """All three at once, since a layer usually needs all three."""
    of_x = F.matmul(g, weight) if needs[0] else None
    of_weight = of_bias = None
    if needs[1]:
        if x.ndim == 2:
            of_weight = F.matmul(g.T, x)
        else:
            of_weight = F.matmul(rows(F, _at_least_matrix(F, g)).T, rows(F, _at_least_matrix(F, x)))
    if bias is None:
        return of_x, of_weight
    if needs[2]:
        of_bias = g if g.ndim == 1 else F.sum(g, axis=tuple(range(g.ndim - 1)))
    return of_x, of_weight, of_bias


def _at_least_matrix(F: Any, x: Any) -> Any:
    return F.reshape(x, shape=(1, *x.shape)) if x.ndim == 1 else x


def _linear_samples(rng: np.random.Generator) -> Iterator:
    def x(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    yield (x(4, 3), x(2, 3), x(2)), {}
    yield (x(4, 3), x(2, 3)), {}
    yield (x(3), x(2, 3), x(2)), {}
    yield (x(2, 2, 3), x(4, 3), x(4)), {}
    yield (x(3, 4).T, x(3, 2).T, x(4)[::2]), {}
    yield (x(0, 3), x(2, 3), x(2)), {}
    yield (x(2, 0), x(3, 0), x(3)), {}
    yield (x(2, 0, 3), x(2, 3)), {}
    yield (x(4, 3).astype("f4"), x(2, 3).astype("f4"), x(2)), {}
    yield (np.arange(6).reshape(2, 3), x(2, 3).astype("f4"), x(2).astype("f4")), {}
    yield "bad", (x(4, 3), x(3, 2), x(2)), {}, ShapeError
    yield "bad", (x(4, 3), x(2, 3), x(3)), {}, ShapeError
    yield "bad", (x(4, 3), x(2, 3), x(1)), {}, ShapeError
    yield "bad", (x(4, 3), x(3)), {}, ShapeError
    yield "bad", (x(), x(2, 3)), {}, ShapeError


LINEAR = Op(
    "linear",
    run=_linear_run,
    numpy=_linear_numpy,
    into=_linear_into,
    infer=_linear_infer,
    vjp=_linear_grad,
    saves=("x", "weight"),
    latex=r"{x}\,{weight}^\top + {bias}",
    derivative=(r"\bar y\,{weight}", r"\bar y^\top {x}", r"\textstyle\sum_n \bar y_n"),
    flops=lambda x, weight, bias=None: (
        2 * x.size * weight.shape[0] + (math.prod(x.shape[:-1]) * weight.shape[0] if bias else 0)
    ),
    samples=_linear_samples,
)


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """A fully connected layer in one operation: `x @ weight.T + bias`.

    Args:
        x: shape (..., in_features).
        weight: shape (out_features, in_features), PyTorch's layout.
        bias: shape (out_features,), or None.

    Returns:
        shape (..., out_features).

    Raises:
        ShapeError: the shapes do not fit each other.

    >>> mg.linear(mg.tensor([1.0, 2.0]), mg.tensor([[3.0, 4.0]]), mg.tensor([0.5]))
    tensor([11.5], dtype=float32)
    """
    if bias is None:
        return bind(LINEAR, *lift_all(x, weight))
    return bind(LINEAR, *lift_all(x, weight, bias))


# ------------------------------------------------------------------------------------------------ diagonals and trace


def _diagonal_length(shape: Sequence[int], offset: int) -> int:
    m, n = shape
    return max(0, min(m, n - offset) if offset >= 0 else min(m + offset, n))


def _diagonal_infer(x: Spec, *, offset: int = 0) -> Spec:
    if x.ndim < 2:
        raise ShapeError("diagonal: x is a matrix or a batch of them", expected="at least 2 axes", actual=f"x: {x!r}",
                         remedy="mg.diag_embed makes a diagonal matrix of a vector")  # fmt: skip
    return Spec((*x.shape[:-2], _diagonal_length(x.shape[-2:], offset)), x.dtype, x.device)


def _diagonal_samples(rng: np.random.Generator) -> Iterator:
    yield (rng.standard_normal((3, 3)),), {}
    yield (rng.standard_normal((2, 3, 4)),), {"offset": 1}
    yield (rng.standard_normal((4, 2)).T[:, ::2],), {"offset": -1}
    yield (rng.standard_normal((2, 3)),), {"offset": 5}
    yield (rng.standard_normal((0, 2, 2)),), {}
    yield (np.arange(4).reshape(2, 2),), {}
    yield "bad", (rng.standard_normal(3),), {}, ShapeError


DIAGONAL = Op(
    "diagonal",
    run=lambda xp, x, *, offset=0: xp.diagonal(x, offset, -2, -1),
    infer=_diagonal_infer,
    vjp=(lambda F, g, y, x, *, offset=0: F.diag_embed(g, shape=x.shape[-2:], offset=offset),),
    view=True,
    latex=r"\operatorname{{diag}}\,{x}",
    samples=_diagonal_samples,
)


def diagonal(x: Any, *, offset: int = 0) -> Tensor:
    """The diagonal of each matrix `x[..., :, :]`: shape (..., k).

    Args:
        offset: 0 is the main diagonal, positive numbers lie above it, negative ones below.

    Raises:
        ShapeError: `x` has fewer than two axes.

    >>> mg.diagonal(mg.tensor([[1, 2], [3, 4]]))
    tensor([1, 4], dtype=int64)
    """
    return bind(DIAGONAL, lift(x), offset=_offset("diagonal", offset))


def _offset(name: str, offset: Any) -> int:
    try:
        return offset.__index__()
    except (AttributeError, TypeError):
        raise DTypeError(f"{name}: offset is an integer", actual=f"{type(offset).__name__} {offset!r}") from None


def _diag_embed_infer(x: Spec, *, shape: tuple[int, int], offset: int = 0) -> Spec:
    if not x.ndim or x.shape[-1] != _diagonal_length(shape, offset):
        raise ShapeError(
            "diag_embed: the values do not fill the diagonal",
            expected=f"x.shape[-1] == "
            f"{_diagonal_length(shape, offset)}, the diagonal of a {shape[0]}x{shape[1]} matrix at offset {offset}",
            actual=f"x: {x!r}",
        )
    return Spec((*x.shape[:-1], *shape), x.dtype, x.device)


def _diag_embed_run(xp: Any, x: Any, *, shape: tuple[int, int], offset: int = 0) -> Any:
    if x.shape[-1] != _diagonal_length(shape, offset):
        raise ValueError("the values do not fill the diagonal")
    matrix = xp.zeros((*x.shape[:-1], *shape), dtype=x.dtype)
    row, column = max(-offset, 0), max(offset, 0)
    along = xp.arange(x.shape[-1])
    matrix[..., along + row, along + column] = x
    return matrix


def _diag_embed_samples(rng: np.random.Generator) -> Iterator:
    yield (rng.standard_normal(3),), {"shape": (3, 3)}
    yield (rng.standard_normal((2, 2)),), {"shape": (3, 4), "offset": 2}
    yield (rng.standard_normal((2, 4))[:, ::2],), {"shape": (3, 2), "offset": -1}
    yield (rng.standard_normal((2, 0)),), {"shape": (0, 0)}
    yield "bad", (rng.standard_normal(3),), {"shape": (2, 2)}, ShapeError
    yield "bad", (rng.standard_normal(()),), {"shape": (1, 1)}, ShapeError


DIAG_EMBED = Op(
    "diag_embed",
    run=_diag_embed_run,
    infer=_diag_embed_infer,
    vjp=(lambda F, g, y, x, *, shape, offset=0: F.diagonal(g, offset=offset),),
    latex=r"\operatorname{{diag}}\,{x}",
    samples=_diag_embed_samples,
)


def diag_embed(x: Any, *, offset: int = 0, shape: tuple[int, int] | None = None) -> Tensor:
    """Matrices of zeros with the vectors `x[..., :]` on their diagonal; the transpose of `diagonal`.

    Args:
        x: shape (..., k).
        offset: which diagonal, as for `diagonal`.
        shape: of each matrix; by default the smallest square one.

    Raises:
        ShapeError: a diagonal of that matrix at that offset does not have k elements.

    >>> mg.diag_embed(mg.tensor([1, 2]), offset=1)
    tensor([[0, 1, 0],
            [0, 0, 2],
            [0, 0, 0]], dtype=int64)
    """
    from .shape import shape_tuple

    t, offset = lift(x), _offset("diag_embed", offset)
    if shape is None:
        n = (t.shape[-1] if t.ndim else 0) + abs(offset)
        shape = (n, n)
    return bind(DIAG_EMBED, t, shape=shape_tuple("diag_embed", shape), offset=offset)


def trace(x: Any, *, offset: int = 0) -> Tensor:
    """The sum of the diagonal of each matrix `x[..., :, :]`.

    >>> mg.ops.trace(mg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5., dtype=float32)
    """
    from .reduction import sum

    return sum(diagonal(x, offset=offset), axis=-1)


# ---------------------------------------------------------------------------------------------------------- einsum


def _split(subscripts: str) -> tuple[list[str], str]:
    operands, output = subscripts.split("->")
    return operands.split(","), output


def _label_sizes(subscripts: str, shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    """The size of every index; an error that names the index if the operands disagree."""
    sizes: dict[str, tuple[int, int]] = {}
    for position, (labels, shape) in enumerate(zip(_split(subscripts)[0], shapes, strict=True)):
        for label, n in zip(labels, shape, strict=True):
            size, first = sizes.setdefault(label, (n, position))
            if size != n:
                raise ShapeError(
                    f"einsum {subscripts!r}: index {label!r} has two sizes",
                    expected="one size for each index",
                    actual=f"{size} in operand {first}, {n} in operand {position}",
                )
    return {label: n for label, (n, _) in sizes.items()}


def _einsum_infer(*operands: Spec, subscripts: str) -> Spec:
    sizes = _label_sizes(subscripts, [s.shape for s in operands])
    return Spec(
        [sizes[i] for i in _split(subscripts)[1]], np.result_type(*[s.dtype for s in operands]), operands[0].device
    )


def _einsum_run(xp: Any, *operands: Any, subscripts: str) -> Any:
    # With one operand the plain loop is best (and may return a view); with several, let the library find the products.
    return xp.einsum(subscripts, *operands, optimize=len(operands) > 1)


def _einsum_vjp(F: Any, needs: Sequence[bool], g: Any, y: Any, *operands: Any, subscripts: str) -> list[Any]:
    """The gradient of one operand is the einsum of `g` and the others, with that operand's subscripts as the output.

    An index that only this operand has was summed out: every one of its positions gets the same gradient.
    """
    labels, output = _split(subscripts)
    found: list[Any] = [None] * len(operands)
    for i, x in enumerate(operands):
        if not needs[i]:
            continue
        others, known = operands[:i] + operands[i + 1 :], labels[:i] + labels[i + 1 :]
        wanted = "".join([k for k in labels[i] if k in output or any(k in other for other in known)])
        gx = F.einsum(g, *others, subscripts=f"{','.join([output, *known])}->{wanted}")
        if wanted != labels[i]:
            gx = F.reshape(gx, shape=tuple([n if k in wanted else 1 for k, n in zip(labels[i], x.shape, strict=True)]))
            gx = F.broadcast_to(gx, shape=x.shape)
        found[i] = gx
    return found


def _einsum_flops(*operands: Spec, subscripts: str) -> int:
    points = math.prod(_label_sizes(subscripts, [s.shape for s in operands]).values())
    return points * len(operands) if len(operands) > 1 else points


def _einsum_samples(rng: np.random.Generator) -> Iterator:
    def x(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    yield (x(2, 3), x(3, 4)), {"subscripts": "ij,jk->ik"}
    yield (x(2, 3),), {"subscripts": "ij->ji"}
    yield (x(2, 3),), {"subscripts": "ij->"}
    yield (x(2, 3, 2),), {"subscripts": "ijk->j"}
    yield (x(2, 3, 2, 2), x(2, 4, 2, 2)), {"subscripts": "bthd,bshd->bhts"}
    yield (x(2, 3), x(3, 2), x(2, 4)), {"subscripts": "ab,bc,cd->ad"}
    yield (x(3), x(3)), {"subscripts": "i,i->"}
    yield (x(2), x(3)), {"subscripts": "i,j->ji"}
    yield (x(2, 3), x(2)), {"subscripts": "ij,k->k"}
    yield (x(), x(2)), {"subscripts": ",i->i"}
    yield (x(0, 3), x(3, 2)), {"subscripts": "ij,jk->ik"}
    yield (x(3, 2).T, x(6, 4)[::2]), {"subscripts": "ij,jk->ik"}
    yield (x(2, 3).astype("f4"), x(3)), {"subscripts": "ij,j->i"}
    yield (np.arange(6).reshape(2, 3), np.arange(3)), {"subscripts": "ij,j->i"}
    yield "bad", (x(2, 3), x(4, 2)), {"subscripts": "ij,jk->ik"}, ShapeError
    yield "bad", (x(2, 3),), {"subscripts": "ijk->i"}, ShapeError
    yield "bad", (x(2, 3),), {"subscripts": "ij->k"}, ArgumentError


EINSUM = Op(
    "einsum",
    run=_einsum_run,
    infer=_einsum_infer,
    vjp=_einsum_vjp,
    saves=("operands",),
    view=True,
    latex=r"\operatorname{{einsum}}",
    flops=_einsum_flops,
    samples=_einsum_samples,
)


def einsum(*operands: Any, subscripts: str | None = None) -> Tensor:
    """Sums of products by Einstein's convention: `einsum("ij,jk->ik", x1, x2)` is the matrix product.

    Every index is a letter; an index that the output lacks is summed over. Without "->" the output has the indices that
    occur once, in alphabetical order. "..." stands for any further axes, which broadcast. An index that stands twice in
    one operand takes its diagonal.

    Args:
        operands: the subscripts, then one tensor for each group between the commas. (The subscripts may also be given
            by keyword.)

    Raises:
        ArgumentError: subscripts that cannot be read, or another number of operands than they say.
        ShapeError: an operand has other axes than its subscripts, or an index two sizes.

    >>> mg.einsum("ij,j->i", mg.tensor([[1.0, 2.0], [3.0, 4.0]]), mg.tensor([1.0, 10.0]))
    tensor([21., 43.], dtype=float32)
    >>> mg.einsum("ii", mg.tensor([[1, 2], [3, 4]]))
    tensor(5, dtype=int64)
    """
    if subscripts is None:
        if not operands or not isinstance(operands[0], str):
            raise DTypeError("einsum: the subscripts come first", expected='a string such as "ij,jk->ik"',
                             actual=f"{type(operands[0]).__name__}" if operands else "nothing")  # fmt: skip
        subscripts, *operands = operands  # type: ignore[assignment]
    if not isinstance(subscripts, str):
        raise DTypeError("einsum: subscripts", expected='a string such as "ij,jk->ik"', actual=shown(subscripts))
    tensors = lift_all(*operands)
    plan = _plan(subscripts, tuple([t.shape for t in tensors]))
    for i, steps in enumerate(plan.steps):
        for step in steps:
            tensors[i] = step(tensors[i])
    return bind(EINSUM, *tensors, subscripts=plan.subscripts)


class _Plan:
    """Subscripts in normal form, and what to do to each operand first (diagonals, broadcasting)."""

    def __init__(self, subscripts: str, steps: list[list[Any]]):
        self.subscripts, self.steps = subscripts, steps


@lru_cache(maxsize=1024)
def _plan(subscripts: str, shapes: tuple[tuple[int, ...], ...]) -> _Plan:
    """Bring subscripts into the form of the operation: "->" written, no "...", each index once in each operand."""
    text = subscripts.replace(" ", "")
    left, arrow, output = text.partition("->")
    groups = left.split(",")
    strange = set(text.replace("->", "").replace("...", "").replace(",", "")) - set(LETTERS)
    if strange or "," in output:
        raise ArgumentError(
            f"einsum: cannot read the subscripts {subscripts!r}",
            expected='letters, ",", "->" and "..."',
            actual=f"{', '.join(map(repr, sorted(strange))) or 'a comma after the arrow'}",
        )
    if len(groups) != len(shapes):
        raise ArgumentError(f"einsum {subscripts!r}: one operand for each group of subscripts",
                            expected=f"{len(groups)} operands", actual=f"{len(shapes)}")  # fmt: skip
    spare = [k for k in LETTERS if k not in text]
    batch: tuple[int, ...] = ()
    counts = []
    for i, (group, shape) in enumerate(zip(groups, shapes, strict=True)):
        extra = len(shape) - len(group.replace("...", ""))
        if group.count("...") > 1 or extra < 0 or (extra > 0 and "..." not in group):
            raise ShapeError(
                f"einsum {subscripts!r}: operand {i} does not have the axes that {group!r} names",
                expected=f"{len(group)} axes"
                if "..." not in group
                else f'at least {len(group) - 3} axes and one "..."',
                actual=f"shape {shape}",
            )
        counts.append(extra)
        start = group.find("...")
        try:
            batch = np.broadcast_shapes(batch, shape[start : start + extra]) if extra else batch
        except ValueError:
            raise ShapeError(f'einsum {subscripts!r}: the axes under "..." cannot be broadcast together',
                             actual=", ".join(map(str, shapes))) from None  # fmt: skip
    ellipsis = "".join(spare[: len(batch)])
    if arrow and ellipsis and "..." not in output:
        raise ArgumentError(f'einsum {subscripts!r}: the output lacks "..."', expected='"..." in the output too',
                            remedy="name the axes that are to be summed over")  # fmt: skip
    if not arrow:
        once = sorted(k for k in set(left) - set(",.") if left.count(k) == 1)
        output = ("..." if "..." in left else "") + "".join(once)
    output = output.replace("...", ellipsis, 1)
    groups = [g.replace("...", ellipsis[len(ellipsis) - n :] if n else "") for g, n in zip(groups, counts, strict=True)]
    for k in output:
        if output.count(k) > 1 or not any(k in g for g in groups):
            raise ArgumentError(
                f"einsum {subscripts!r}: output index {k!r}", expected="each output index once, and in an operand"
            )
    steps: list[list[Any]] = []
    prepared: list[tuple[int, ...]] = []  # the shapes of the operands after the steps
    for i, (group, shape) in enumerate(zip(groups, shapes, strict=True)):
        todo: list[Any] = []
        _label_sizes(f"{group}->", [shape])
        full = tuple(batch[ellipsis.index(k)] if k in ellipsis else n for k, n in zip(group, shape, strict=True))
        if full != shape:
            todo.append(_broadcast_step(full))
        sizes = dict(zip(group, full, strict=True))
        while (twice := next((k for k in group if group.count(k) > 1), None)) is not None:
            a = group.index(twice)
            b = group.index(twice, a + 1)
            todo.append(_diagonal_step(a, b, len(group)))
            group = "".join(k for j, k in enumerate(group) if j not in (a, b)) + twice
        groups[i] = group
        steps.append(todo)
        prepared.append(tuple([sizes[k] for k in group]))
    normal = f"{','.join(groups)}->{output}"
    _label_sizes(normal, prepared)  # raises for an index with two sizes, of which NumPy lets one be 1
    return _Plan(normal, steps)


def _broadcast_step(shape: tuple[int, ...]) -> Any:
    from .shape import broadcast_to

    return lambda x: broadcast_to(x, shape)


def _diagonal_step(a: int, b: int, ndim: int) -> Any:
    from .shape import permute_dims

    order = (*[i for i in range(ndim) if i not in (a, b)], a, b)
    return lambda x: diagonal(permute_dims(x, order))


# ------------------------------------------------------------------------------------------------ spelled with others


def tensordot(x1: Any, x2: Any, axes: int | tuple[Any, Any] = 2) -> Tensor:
    """Sum of products over pairs of axes: an `einsum` that names axes by number.

    Args:
        axes: n: the last n axes of `x1` with the first n of `x2`, in order; or a pair of sequences of axes.

    Returns:
        the remaining axes of `x1`, then those of `x2`.

    Raises:
        ShapeError: paired axes differ in size, or their numbers differ.

    >>> mg.tensordot(mg.ones((2, 3)), mg.ones((3, 4)), axes=1).shape
    (2, 4)
    """
    a, b = lift_all(x1, x2)
    if hasattr(axes, "__index__") and not isinstance(axes, np.ndarray):
        axes = integer("tensordot", "axes", axes)
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise ArgumentError("tensordot: axes", expected=f"0 to {min(a.ndim, b.ndim)}", actual=f"{axes}")
        first, second = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    else:
        pair = several("tensordot", "axes", axes, "a number of axes, or a pair of sequences of axes")
        if len(pair) != 2:
            raise ArgumentError(
                "tensordot: axes", expected="a number of axes, or a pair of sequences of axes", actual=shown(axes)
            )
        first, second = normalized_axes("tensordot", pair[0], a.ndim), normalized_axes("tensordot", pair[1], b.ndim)
    pairs = [(a.shape[i], b.shape[j]) for i, j in zip(first, second, strict=False)]
    if len(first) != len(second) or any(n != m for n, m in pairs):
        raise ShapeError("tensordot: the axes do not pair", expected="as many axes of x1 as of x2, of equal sizes",
                         actual=f"axes {first} of {a.shape} with axes {second} of {b.shape}")  # fmt: skip
    left = LETTERS[: a.ndim]
    right = list(LETTERS[a.ndim : a.ndim + b.ndim])
    for i, j in zip(first, second, strict=True):
        right[j] = left[i]
    output = [k for k in left if k not in right] + [k for k in right if k not in left]
    return bind(EINSUM, a, b, subscripts=f"{left},{''.join(right)}->{''.join(output)}")


def vecdot(x1: Any, x2: Any, *, axis: int = -1) -> Tensor:
    """The dot product of the vectors along one axis; the other axes broadcast.

    Args:
        axis: counted from the right (-1 is the last), so that it means the same axis of both after broadcasting.

    Raises:
        ShapeError: the vectors have different lengths.

    >>> mg.vecdot(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), mg.tensor([1.0, 10.0]))
    tensor([21., 43.], dtype=float32)
    """
    from .elementwise import multiply
    from .reduction import sum

    a, b = lift_all(x1, x2)
    one_axis("vecdot", axis, min(a.ndim, b.ndim))
    if a.shape[axis] != b.shape[axis]:
        raise ShapeError("vecdot: the vectors have different lengths", expected=f"x1.shape[{axis}] == x2.shape[{axis}]",
                         actual=f"{a.shape[axis]} != {b.shape[axis]}")  # fmt: skip
    return sum(multiply(a, b), axis=axis if axis < 0 else axis - min(a.ndim, b.ndim))


def outer(x1: Any, x2: Any) -> Tensor:
    """Every product of an element of one vector with one of the other: `result[i, j] = x1[i] * x2[j]`.

    Raises:
        ShapeError: an operand is not 1-d.

    >>> mg.outer(mg.tensor([1, 2]), mg.tensor([1, 10]))
    tensor([[ 1, 10],
            [ 2, 20]], dtype=int64)
    """
    from .elementwise import multiply
    from .shape import reshape

    a, b = lift_all(x1, x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ShapeError("outer: two vectors", expected="one axis each", actual=f"shapes {a.shape} and {b.shape}",
                         remedy="flatten them, or use mg.einsum")  # fmt: skip
    return multiply(reshape(a, (a.shape[0], 1)), b)


def vector_norm(x: Any, *, axis: Any = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """The length of the vectors along `axis` (None: of all elements): (sum |x|^ord)^(1/ord).

    The gradient at the zero vector is 0, for every `ord`.

    Args:
        axis: an axis or several.
        ord: a positive number; 2 is Euclid's length, 1 the sum and infinity the largest of the absolute values.

    Raises:
        DTypeError: `x` is not floating point. ArgumentError: `ord` is not positive.

    >>> mg.vector_norm(mg.tensor([[3.0, 4.0], [0.0, 0.0]]), axis=1)
    tensor([5., 0.], dtype=float32)
    """
    from .elementwise import abs, equal, multiply, pow, sqrt, where
    from .reduction import max, sum

    t = lift(x)
    need_float("vector_norm", "x", t)  # type: ignore[arg-type]
    if not number("vector_norm", "ord", ord) > 0:
        raise ArgumentError("vector_norm: ord", expected="a positive number, or infinity", actual=f"{ord!r}")
    if ord == math.inf:
        return max(abs(t), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(abs(t), axis=axis, keepdims=keepdims)
    total = sum(multiply(t, t) if ord == 2 else pow(abs(t), float(ord)), axis=axis, keepdims=keepdims)
    nothing = equal(total, 0)  # where the root has no finite slope; replace it there by a harmless 1
    safe = where(nothing, 1.0, total)
    root = sqrt(safe) if ord == 2 else pow(safe, 1 / float(ord))
    return where(nothing, 0.0, root)
