"""exp, log, tanh and their kin as C that compilers turn into vector instructions.

The functions of the C library are scalar, and a loop that calls them is ten times slower than one that does not. These
are polynomials without branches, so a loop over them becomes vector code by itself. Each states its largest error in
units in the last place (ulp), which `tests/test_vector_math.py` measures over the whole range, with infinities, NaN,
signed zeros and denormal numbers. The functions for float64 are the C library's.

Method: the argument is reduced to a small interval, where a polynomial is enough (W. J. Cody and W. Waite, "Software
Manual for the Elementary Functions", 1980); the coefficients minimise the largest relative error there (Lawson's
weighted least squares, in 40 digits, then rounded). Multiplications and additions of polynomials are fused where the
processor can: `__builtin_fmaf`.
"""

from __future__ import annotations

from typing import NamedTuple


class Function(NamedTuple):
    """A function in C: its name, the text of it and of what it calls, and its largest error."""

    name: str
    texts: dict[str, str]
    ulp: float


def horner(variable: str, *coefficients: float) -> str:
    """A polynomial, from its lowest coefficient on, as nested fused multiply-adds."""
    text = f"{coefficients[-1]!r}f"
    for c in reversed(coefficients[:-1]):
        text = f"__builtin_fmaf({text}, {variable}, {c!r}f)"
    return text


# x = n ln 2 + r, exp(x) = 2**n exp(r). The power is multiplied in two halves, so that denormal results come out right.
SCALE = """static inline float mg_scale_f32(float x, int n) {
  union { int32_t i; float f; } a, b;
  a.i = ((n >> 1) + 127) << 23;
  b.i = (n - (n >> 1) + 127) << 23;
  return x * a.f * b.f;
}"""
EXP = f"""static inline float mg_exp_f32(float x) {{
  float c = x > 89.0f ? 89.0f : x;
  c = c < -104.0f ? -104.0f : c;
  float n = __builtin_rintf(c * 1.44269504f);
  float r = __builtin_fmaf(n, -0.693145752f, c);
  r = __builtin_fmaf(n, -1.42860677e-6f, r);
  float q = {horner("r", 0.5, 0.166665181517601, 0.04166620597243309, 0.008368882350623608, 0.0013950476422905922)};
  return mg_scale_f32(__builtin_fmaf(r * r, q, r) + 1.0f, (int)n);
}}"""
EXPM1 = f"""static inline float mg_expm1_f32(float x) {{
  float c = x > 89.0f ? 89.0f : x;
  c = c < -104.0f ? -104.0f : c;
  float n = __builtin_rintf(c * 1.44269504f);
  float r = __builtin_fmaf(n, -0.693145752f, c);
  r = __builtin_fmaf(n, -1.42860677e-6f, r);
  float q = {horner("r", 0.5, 0.166665181517601, 0.04166620597243309, 0.008368882350623608, 0.0013950476422905922)};
  float p = __builtin_fmaf(r * r, q, r);
  float high = mg_scale_f32(p + 1.0f, (int)n) - 1.0f;
  float s = mg_scale_f32(1.0f, (int)n);
  float low = __builtin_fmaf(s, p, s - 1.0f);
  low = n == 0.0f ? p : low;
  low = x == 0.0f ? x : low;
  return __builtin_fabsf(n) > 24.0f ? high : low;
}}"""
# x = 2**e m with m between sqrt(1/2) and sqrt(2); log(x) = e ln 2 + log(m)
LOG = f"""static inline float mg_log_f32(float x) {{
  union {{ float f; int32_t i; }} u;
  int tiny = x < 1.17549435e-38f;
  u.f = tiny ? x * 8388608.0f : x;
  int32_t e = (u.i - 0x3f3504f3) >> 23;
  u.i -= (int32_t)((uint32_t)e << 23);
  float f = u.f - 1.0f, k = (float)(e - (tiny ? 23 : 0));
  float p = {
    horner(
        "f",
        0.3333331048488617,
        -0.24999986588954926,
        0.20002226531505585,
        -0.16669251024723053,
        0.14218658208847046,
        -0.1238434836268425,
        0.11872976273298264,
        -0.11789807677268982,
        0.06915368139743805,
    )
};
  float s = f * f;
  float low = __builtin_fmaf(k, 1.42860677e-6f, s * f * p);
  low = __builtin_fmaf(-0.5f, s, low);
  float y = __builtin_fmaf(k, 0.693145752f, f + low);
  y = x == __builtin_inff() ? x : y;
  y = x == 0.0f ? -__builtin_inff() : y;
  return x < 0.0f || x != x ? __builtin_nanf("") : y;
}}"""
# log(1 + x) = log(u) + (x - (u - 1)) / u, where u is 1 + x rounded
LOG1P = """static inline float mg_log1p_f32(float x) {
  float u = 1.0f + x;
  float y = mg_log_f32(u) + (x - (u - 1.0f)) / u;
  y = x == __builtin_inff() || x == 0.0f ? x : y;
  return x == -1.0f ? -__builtin_inff() : y;
}"""
TANH = f"""static inline float mg_tanh_f32(float x) {{
  float a = __builtin_fabsf(x), s = x * x;
  float p = {horner("s", -0.3333328366279602, 0.13331490755081177, -0.05374349653720856, 0.020650578662753105,
                    -0.005717036779969931)};
  float small = __builtin_fmaf(x * s, p, x);
  float e = mg_exp_f32(a > 10.0f ? 20.0f : a + a);
  float large = __builtin_copysignf(1.0f - 2.0f / (e + 1.0f), x);
  float y = a < 0.625f ? small : large;
  return x != x ? x : y;
}}"""  # fmt: skip
ERF = f"""static inline float mg_erf_f32(float x) {{
  float a = __builtin_fabsf(x), s = x * x;
  float small = x * {
    horner(
        "s",
        1.128379225730896,
        -0.37612637877464294,
        0.11283782869577408,
        -0.02686544507741928,
        0.005221074912697077,
        -0.00084847112884745,
        0.00011270544200669974,
        -9.680136827228125e-06,
    )
};
  float b = a > 4.0f ? 4.0f : a;
  float large = 1.0f - mg_exp_f32({
    horner(
        "b",
        0.0002910252951551229,
        -1.1301196813583374,
        -0.6320134401321411,
        -0.10990972816944122,
        0.026327522471547127,
        -0.004727688152343035,
        0.000590203155297786,
        -4.529808938969927e-05,
        1.5998191429389408e-06,
    )
});
  large = a > 4.0f ? 1.0f : large;
  return a < 1.0f ? small : x != x ? x : __builtin_copysignf(large, x);
}}"""
_exp = {"mg_scale_f32": SCALE, "mg_exp_f32": EXP}

FUNCTIONS: dict[str, dict[str, Function]] = {
    "exp": {"float32": Function("mg_exp_f32", _exp, 1.0)},
    "expm1": {"float32": Function("mg_expm1_f32", {"mg_scale_f32": SCALE, "mg_expm1_f32": EXPM1}, 2.0)},
    "log": {"float32": Function("mg_log_f32", {"mg_log_f32": LOG}, 1.0)},
    "log1p": {"float32": Function("mg_log1p_f32", {"mg_log_f32": LOG, "mg_log1p_f32": LOG1P}, 2.0)},
    "tanh": {"float32": Function("mg_tanh_f32", {**_exp, "mg_tanh_f32": TANH}, 2.0)},
    "erf": {"float32": Function("mg_erf_f32", {**_exp, "mg_erf_f32": ERF}, 2.0)},
}
