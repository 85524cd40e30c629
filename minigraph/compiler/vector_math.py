"""exp, log, sin, tanh and their kin as C that compilers turn into vector instructions.

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
  float large = 1.0f - 2.0f / (e + 1.0f);
  float y = __builtin_copysignf(a < 0.625f ? small : large, x);
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
# x = n pi/2 + r, in double. Subtracting n times the first part of pi/2 is exact (`fma` rounds once, and the difference
# fits), and with the second part there are 107 bits of pi/2. Floats from 2**50 on are M 2**k with k one of 27, 53 and
# 79 and M a whole number below 2**50: 2**k is replaced by what it leaves modulo 2 pi, again in two parts, and `low` is
# what rounding the product with the first one loses. So r is right to 2**-56 or so, at any size of x, and no float is
# nearer to a multiple of pi/2 than 2**-30. Adding 1.5 * 2**52 rounds to whole numbers, and leaves n in the last bits.
_QUARTER = (1.5707963267948966, 6.123233995736766e-17)
_LEFT = {  # k: 2**k modulo 2 pi
    27: (-0.868565626261989, -9.019323986564577e-18),
    53: (-2.1276428765770463, -1.3415010681967913e-16),
    79: (-0.5159693243550164, 1.6137747064895307e-17),
}
_scales = "".join(
    f"""
  left = size < {2.0 ** (k + 23)!r} ? left : {high * 2.0**-k!r};
  more = size < {2.0 ** (k + 23)!r} ? more : {low * 2.0**-k!r};"""
    for k, (high, low) in _LEFT.items()
)
TURN = f"""static inline double mg_turn_f32(float x, int32_t *quarters) {{
  union {{ double f; int64_t i; }} u;
  double d = x, size = __builtin_fabs(d), left = 1.0, more = 0.0;{_scales}
  double high = d * left, low = __builtin_fma(d, more, __builtin_fma(d, left, -high));
  u.f = high * 0.6366197723675814 + 6755399441055744.0;
  *quarters = (int32_t)u.i;
  double n = u.f - 6755399441055744.0;
  return __builtin_fma(n, {-_QUARTER[1]!r}, __builtin_fma(n, {-_QUARTER[0]!r}, high)) + low;
}}"""
# sine and cosine of r, between -1 and 1; in every second quarter they change places
_sine = f"""float r = (float)mg_turn_f32(x, &q), s = r * r;
  float sine = __builtin_fmaf(r * s, {horner("s", -0.1666666716337204, 0.008333316072821617, -0.00019836115825455636,
                                             2.694810063985642e-06)}, r);
  float cosine = __builtin_fmaf(s * s, {horner("s", 0.041666582226753235, -0.0013884913641959429,
                                               2.421546923869755e-05)}, __builtin_fmaf(s, -0.5f, 1.0f));"""  # fmt: skip
SIN = f"""static inline float mg_sin_f32(float x) {{
  int32_t q;
  {_sine}
  float y = q & 1 ? cosine : sine;
  y = q & 2 ? -y : y;
  return x == 0.0f ? x : y;
}}"""
COS = f"""static inline float mg_cos_f32(float x) {{
  int32_t q;
  {_sine}
  float y = q & 1 ? sine : cosine;
  return (q + 1) & 2 ? -y : y;
}}"""
TAN = f"""static inline float mg_tan_f32(float x) {{
  int32_t q;
  {_sine}
  float y = q & 1 ? -cosine / sine : sine / cosine;
  return x == 0.0f ? x : y;
}}"""
_exp = {"mg_scale_f32": SCALE, "mg_exp_f32": EXP}

FUNCTIONS: dict[str, dict[str, Function]] = {
    "exp": {"float32": Function("mg_exp_f32", _exp, 1.0)},
    "expm1": {"float32": Function("mg_expm1_f32", {"mg_scale_f32": SCALE, "mg_expm1_f32": EXPM1}, 2.0)},
    "log": {"float32": Function("mg_log_f32", {"mg_log_f32": LOG}, 1.0)},
    "log1p": {"float32": Function("mg_log1p_f32", {"mg_log_f32": LOG, "mg_log1p_f32": LOG1P}, 2.0)},
    "tanh": {"float32": Function("mg_tanh_f32", {**_exp, "mg_tanh_f32": TANH}, 2.0)},
    "sin": {"float32": Function("mg_sin_f32", {"mg_turn_f32": TURN, "mg_sin_f32": SIN}, 2.0)},
    "cos": {"float32": Function("mg_cos_f32", {"mg_turn_f32": TURN, "mg_cos_f32": COS}, 2.0)},
    "tan": {"float32": Function("mg_tan_f32", {"mg_turn_f32": TURN, "mg_tan_f32": TAN}, 4.0)},
    "erf": {"float32": Function("mg_erf_f32", {**_exp, "mg_erf_f32": ERF}, 2.5)},
}
