"""Expressions: what an elementwise operation computes, as C.

An operation says what it computes in one line, `expression="where(x > 0, x, alpha * expm1(minimum(x, 0)))"`. That line
is parsed once, typed, and written out with the names of the operands. All operands are converted to the type in which
NumPy would compute, so that +, -, *, / and comparisons give NumPy's bits. Functions become calls `mg_exp_f32(x)`, whose
text comes from `vector_math` or from the table `HELPERS` here, and which are emitted only where they are used.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..tensor import Tensor
from .vector_math import FUNCTIONS

C_TYPES = {
    "bool": "uint8_t", "int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "int64": "int64_t",
    "uint8": "uint8_t", "uint16": "uint16_t", "uint32": "uint32_t", "uint64": "uint64_t",
    "float32": "float", "float64": "double",
}  # fmt: skip
OPERATORS = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
    ast.LShift: "<<", ast.RShift: ">>", ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">",
    ast.GtE: ">=",
}  # fmt: skip
COSTLY = {  # functions that are dearer than a second look at memory
    "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "pow", "erf", "sqrt", "hypot", "logaddexp",
}  # fmt: skip

# Templates with {T} the C type and {s} the suffix. Each is a function of the compute type and returns it.
HELPERS = {
    "maximum": "static inline {T} mg_maximum_{s}({T} a, {T} b) {{ return (a >= b || a != a) ? a : b; }}",
    "minimum": "static inline {T} mg_minimum_{s}({T} a, {T} b) {{ return (a <= b || a != a) ? a : b; }}",
    "reciprocal": "static inline {T} mg_reciprocal_{s}({T} a) {{ return 1 / a; }}",
}
FLOAT_HELPERS = {
    "sign": "static inline {T} mg_sign_{s}({T} a) {{ return a != a ? a : ({T})((a > 0) - (a < 0)); }}",
    "floor_divide": """static inline {T} mg_floor_divide_{s}({T} a, {T} b) {{
  {T} m = __builtin_fmod{f}(a, b), d = (a - m) / b, r;
  if (b == 0) return a / b;
  if (m != 0) {{ if ((b < 0) != (m < 0)) d -= 1; }}
  if (d == 0) return __builtin_copysign{f}(0, a / b);
  r = __builtin_floor{f}(d);
  return d - r > ({T})0.5 ? r + 1 : r;
}}""",
    "remainder": """static inline {T} mg_remainder_{s}({T} a, {T} b) {{
  {T} m = __builtin_fmod{f}(a, b);
  if (b == 0) return m;
  if (m == 0) return __builtin_copysign{f}(0, b);
  return ((b < 0) != (m < 0)) ? m + b : m;
}}""",
}
INTEGER_HELPERS = {
    "abs": "static inline {T} mg_abs_{s}({T} a) {{ return a < 0 ? -a : a; }}",
    "sign": "static inline {T} mg_sign_{s}({T} a) {{ return ({T})((a > 0) - (a < 0)); }}",
    "floor_divide": """static inline {T} mg_floor_divide_{s}({T} a, {T} b) {{
  if (b == 0) return 0;
  {T} q = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}}""",
    "remainder": """static inline {T} mg_remainder_{s}({T} a, {T} b) {{
  if (b == 0) return 0;
  {T} r = a % b;
  return (r != 0 && (r < 0) != (b < 0)) ? r + b : r;
}}""",
}
BUILTINS = {"abs": "fabs", "sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "round": "rint", "trunc": "trunc"}
LIBRARY = {
    "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "hypot", "pow", "log2", "log10",
    "expm1", "log1p", "erf", "exp", "log", "sin", "cos", "tanh",
}  # fmt: skip


def suffix(dtype: np.dtype) -> str:
    """`f32`, `i64`, `u8`: the end of a function's name."""
    return f"{dtype.kind}{8 * dtype.itemsize}"


@cache
def c_type(dtype: np.dtype) -> str:
    return C_TYPES[dtype.name]


def literal(value: Any, dtype: np.dtype) -> str:
    """A number as C, to the bit."""
    if dtype.kind == "f":
        x = float(dtype.type(value))
        f = "f" if dtype.itemsize == 4 else ""
        if x != x:
            return f'__builtin_nan{f}("")'
        if x in (float("inf"), float("-inf")):
            return f"({'-' if x < 0 else ''}__builtin_inf{f}())"
        short = repr(x) if dtype.itemsize == 8 else str(np.float32(x))
        text = short if ("." in short or "e" in short) else short + ".0"
        text = text if dtype.type(float(text)) == x else x.hex()
        return f"({text}{f})" if text.startswith("-") else f"{text}{f}"
    if dtype.kind == "b":
        return "1" if value else "0"
    i = int(value)
    if i == -(1 << 63):
        return "INT64_MIN"
    return f"{i}ULL" if i > (1 << 63) - 1 else (f"{i}LL" if abs(i) >= 1 << 31 else f"({i})" if i < 0 else str(i))


class Unsupported(Exception):
    """An operation that cannot be written as C here: it runs by its own code instead."""


def compute_dtype(n: Tensor) -> np.dtype:
    """The type in which NumPy computes an elementwise operation."""
    if n.op.name in ("where", "astype", "in_range", "copy") or n.dtype.kind != "b":
        return n.dtype
    if n.op.name.startswith("logical"):
        return np.dtype(bool)
    return np.result_type(*[x.dtype for x in n.inputs])


@cache
def parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def cast(text: str, source: np.dtype, target: np.dtype) -> str:
    """A C expression converted."""
    if source == target:
        return text
    if target.kind == "b":
        return f"({text} != 0)"
    return f"(({c_type(target)}){text})"


class Writer:
    """Writes expressions and remembers which functions they need."""

    def __init__(self) -> None:
        self.functions: dict[str, str] = {}  # name -> text

    def __call__(self, n: Tensor, operands: Sequence[str]) -> str:
        """The expression of `n`, given the C names of its operands (of their own types).

        Raises:
            Unsupported: no C is known for a part of it.
        """
        compute = compute_dtype(n)
        if n.op.name == "astype":
            return self.conversion(operands[0], n.inputs[0].dtype, n.dtype)
        if n.op.name == "where":
            c, a, b = operands
            of_c, of_a, of_b = [x.dtype for x in n.inputs]
            return f"({cast(c, of_c, np.dtype(bool))} ? {cast(a, of_a, n.dtype)} : {cast(b, of_b, n.dtype)})"
        if n.op.name == "in_range":
            low, high = n.attrs["low"], n.attrs["high"]
            return f"(bad |= ({operands[0]} < {low}) | ({operands[0]} >= {high}), {operands[0]})"
        names = dict(zip(n.op.arguments, operands, strict=True))
        kinds = {a: x.dtype for a, x in zip(n.op.arguments, n.inputs, strict=True)}
        typed = {a: cast(t, kinds[a], compute) for a, t in names.items()}
        text, kind = self.write(parsed(n.op.expression), typed, n.attrs or {}, compute)
        return (
            cast(text, np.dtype(bool) if kind == "b" else compute, n.dtype)
            if kind != "b" or n.dtype.kind != "b"
            else text
        )

    def conversion(self, text: str, source: np.dtype, target: np.dtype) -> str:
        if source.kind == "f" and target.kind in "iu" and target.itemsize < 4:
            return f"(({c_type(target)})(int32_t){text})"  # as NumPy does: through the machine's own conversion
        return cast(text, source, target)

    def write(
        self, e: ast.expr, names: Mapping[str, str], attrs: Mapping[str, Any], dtype: np.dtype
    ) -> tuple[str, str]:
        """C text, and "b" for a truth value or "n" for a number of the compute type."""
        match e:
            case ast.Name(id=name):
                if name in names:
                    return names[name], "n"
                return literal(attrs[name], dtype), "n"
            case ast.Constant(value=value):
                return literal(value, dtype), "n"
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return f"(-{self.number(x, names, attrs, dtype)})", "n"
            case ast.BinOp(left=a, op=op, right=b):
                sign = OPERATORS[type(op)]
                return f"({self.number(a, names, attrs, dtype)} {sign} {self.number(b, names, attrs, dtype)})", "n"
            case ast.Compare(left=a, ops=[op], comparators=[b]):
                sign = OPERATORS[type(op)]
                return f"({self.number(a, names, attrs, dtype)} {sign} {self.number(b, names, attrs, dtype)})", "b"
            case ast.Call(func=ast.Name(id=name), args=args):
                return self.call(name, args, names, attrs, dtype)
        raise Unsupported(ast.dump(e))

    def number(self, e: ast.expr, names: Mapping[str, str], attrs: Mapping[str, Any], dtype: np.dtype) -> str:
        text, kind = self.write(e, names, attrs, dtype)
        return f"(({c_type(dtype)}){text})" if kind == "b" else text

    def call(
        self, name: str, args: Sequence[ast.expr], names: Mapping[str, str], attrs: Mapping[str, Any], dtype: np.dtype
    ) -> tuple[str, str]:
        if name == "where":
            c, _ = self.write(args[0], names, attrs, dtype)
            a, b = (self.number(x, names, attrs, dtype) for x in args[1:])
            return f"({c} ? {a} : {b})", "n"
        given = [self.number(x, names, attrs, dtype) for x in args]
        is_float = dtype.kind == "f"
        if not is_float and (name in ("floor", "ceil", "trunc") or (name == "abs" and dtype.kind in "bu")):
            return given[0], "n"
        match name:
            case "isnan":
                return (f"({given[0]} != {given[0]})" if is_float else "0"), "b"
            case "isfinite":
                return (f"(({given[0]} - {given[0]}) == 0)" if is_float else "1"), "b"
            case "isinf":
                return (f"({given[0]} == {given[0]} && ({given[0]} - {given[0]}) != 0)" if is_float else "0"), "b"
            case "logical_not":
                return f"(!{given[0]})", "b"
            case "logical_and" | "logical_or" | "logical_xor":
                sign = {"and": "&", "or": "|", "xor": "^"}[name[8:]]
                return f"({given[0]} {sign} {given[1]})", "b"
            case "bitwise_invert":
                return (f"(!{given[0]})" if dtype.kind == "b" else f"((({c_type(dtype)})~{given[0]}))"), "n"
        return f"{self.function(name, dtype)}({', '.join(given)})", "n"

    def function(self, name: str, dtype: np.dtype) -> str:
        """The C name of a function in a type; its text is noted."""
        f = "f" if dtype.itemsize == 4 else ""
        if dtype.kind == "f" and name in BUILTINS:
            return f"__builtin_{BUILTINS[name]}{f}"
        own = f"mg_{name}_{suffix(dtype)}"
        known = FUNCTIONS.get(name, {}).get(dtype.name)
        if known is not None:
            for helper, text in known.texts.items():
                self.functions.setdefault(helper, text)
            return str(known.name)
        tables: list[dict[str, str]] = [HELPERS, FLOAT_HELPERS if dtype.kind == "f" else INTEGER_HELPERS]
        for table in tables:
            if name in table and (dtype.kind != "b" or name in ("maximum", "minimum")):
                self.functions.setdefault(own, table[name].format(T=c_type(dtype), s=suffix(dtype), f=f))
                return own
        if name in LIBRARY and dtype.kind == "f":
            return f"__builtin_{name}{f}"
        raise Unsupported(f"{name} of {dtype}")


def costly(n: Tensor) -> bool:
    """Whether computing `n` again costs more than storing it."""
    return calls_costly(n.op.expression or "0")


@cache
def calls_costly(expression: str) -> bool:
    """Whether an expression calls a function that takes long."""
    return any(
        isinstance(e, ast.Call) and isinstance(e.func, ast.Name) and e.func.id in COSTLY
        for e in ast.walk(parsed(expression))
    )


Names = Callable[[Tensor], str]
