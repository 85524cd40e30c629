"""The C text of convolution and pooling: one function for each operation, over helpers that they share.

Every function opens with the numbers of its convolution as constants, so that one text serves all, and the C compiler
unrolls what it knows. `real` becomes float or double. The constants:

    N C H W, O, KH KW, OH OW    the shapes: images, kernels, results
    SH SW, DH DW, TOP LEFT      stride, dilation, padding
    PH PW                       height and width of a padded image
    ROW, PLANE                  numbers from one row, and from one channel, of what is read to the next
    GROUPS, CG, OG              groups, and channels in a group before and after
    LAST                        numbers from the first tap of a kernel to its last
    XN XC XH XW, WO WC WH WW    strides of an operand, here x and w; likewise G, Y, V; BIAS is that of the bias
    COPIED, FRAME               whether images are first copied into a frame, and the numbers in one
    PACKED, OWN                 numbers in the packed matrix, and in a thread's own part of the scratch memory t
    PLANES, PADDED              for pooling: images times channels; whether there is a frame of padding
    APART, EXACT                windows do not overlap; and they cover all of the image
    THREADS                     how many threads share the images

PARALLEL stands for the pragma that shares a loop between them, THREAD for the number of the one that is running.
"""

VECTORS = """
/* As many numbers as a register holds, and how many registers there are. */
#if defined(__AVX512F__)
enum { vector_bytes = 64, registers = 32 };
#elif defined(__AVX__)
enum { vector_bytes = 32, registers = 16 };
#elif defined(__aarch64__)
enum { vector_bytes = 16, registers = 32 };
#else
enum { vector_bytes = 16, registers = 16 };
#endif
#define INLINE static inline __attribute__((always_inline))
"""
CONTRACTED = """
#pragma GCC push_options
#pragma GCC optimize("fp-contract=fast", "no-predictive-commoning")
{}
#pragma GCC pop_options
"""
TILES = """
enum { lanes_real = vector_bytes / sizeof(real) };
typedef real vector_real __attribute__((vector_size(vector_bytes), aligned(sizeof(real)), may_alias));

/* z[r] (+)= sum over columns k of x[row(r) + column(k)] * m[k], for down * across rows that registers can hold.
   row(r) = r / across * xd + r % across * xa; columns run over n0 * n1 * n2 with strides s0, s1, s2; m and z have
   `wide` vectors in a row. */
INLINE void tile_real(const int down, const int across, const int wide, const int add,
                      const real *x, const long xd, const long xa, const long n0, const long s0, const long n1,
                      const long s1, const long n2, const long s2, const real *m, real *z, const long zd,
                      const long za) {
#ifdef __clang__
#pragma clang fp contract(fast)
#endif
  vector_real sum[registers], w[2];
#pragma GCC unroll 32
  for (int r = 0; r < down * across; r++)
#pragma GCC unroll 2
    for (int v = 0; v < wide; v++) {
      const real *at = z + r / across * zd + r % across * za + v * lanes_real;
      sum[r * wide + v] = add ? *(const vector_real *)at : (vector_real){0};
    }
#pragma GCC unroll 1
  for (long a = 0; a < n0; a++)
#pragma GCC unroll 1
    for (long b = 0; b < n1; b++)
#pragma GCC unroll 1
      for (long c = 0; c < n2; c++, m += wide * lanes_real) {
        const real *at = x + a * s0 + b * s1 + c * s2;
#pragma GCC unroll 2
        for (int v = 0; v < wide; v++) w[v] = *(const vector_real *)(m + v * lanes_real);
#pragma GCC unroll 32
        for (int r = 0; r < down * across; r++)
#pragma GCC unroll 2
          for (int v = 0; v < wide; v++)
            sum[r * wide + v] += at[r / across * xd + r % across * xa] * w[v];
      }
#pragma GCC unroll 32
  for (int r = 0; r < down * across; r++)
#pragma GCC unroll 2
    for (int v = 0; v < wide; v++)
      *(vector_real *)(z + r / across * zd + r % across * za + v * lanes_real) = sum[r * wide + v];
}

/* The same for any number of rows, a tile at a time. */
INLINE void tiles_real(const int down, const int across, const int wide, const int add,
                       const real *x, const long xd, const long xa, const long n0, const long s0, const long n1,
                       const long s1, const long n2, const long s2, const real *m, real *z, const long zd,
                       const long za) {
  const int most = (registers - 4) / wide, parts = (across + most - 1) / most, part = (across + parts - 1) / parts;
  const int all = most / across < down ? most / across : down, tall = all ? all : 1;
  for (int i = 0; i < down; i += tall)
    for (int j = 0; j < across; j += part) {
      const real *from = x + i * xd + j * xa;
      real *to = z + i * zd + j * za;
      if (across % part && j + part > across)
        tile_real(1, across % part, wide, add, from, xd, xa, n0, s0, n1, s1, n2, s2, m, to, zd, za);
      else if (down % tall && i + tall > down)
        tile_real(down % tall, part, wide, add, from, xd, xa, n0, s0, n1, s1, n2, s2, m, to, zd, za);
      else
        tile_real(tall, part, wide, add, from, xd, xa, n0, s0, n1, s1, n2, s2, m, to, zd, za);
    }
}
"""
PADDED = """
/* A copy of planes of h rows and w columns, in a frame of another number. */
INLINE void padded_real(const real *x, const long sc, const long sh, const long sw, const long planes, const long h,
                        const long w, const long top, const long left, const long ph, const long pw, const real frame,
                        real *out) {
  if (ph > h || pw > w)
    for (long i = 0; i < planes * ph * pw; i++) out[i] = frame;
  for (long c = 0; c < planes; c++)
    for (long i = 0; i < h; i++)
      for (long j = 0; j < w; j++) out[(c * ph + top + i) * pw + left + j] = x[c * sc + i * sh + j * sw];
}
"""
TRANSPOSED = """
/* out[j][i] = x[i][j] (+ bias[j]) for the first `columns` of a row of x: vectors of channels become images. */
static __attribute__((noinline)) void transposed_real(const real *x, const long rows, const long columns,
                                                      const long span, real *out, const long distance,
                                                      const real *bias, const long step) {
#define FROM(span, columns)           \
  for (long i = 0; i < rows; i++)     \
    for (long j = 0; j < columns; j++) \
      out[j * distance + i] = bias ? x[i * span + j] + bias[j * step] : x[i * span + j];
  if (columns == 2 * lanes_real) FROM(2 * lanes_real, 2 * lanes_real) /* sizes that the compiler knows */
  else if (columns == lanes_real && span == lanes_real) FROM(lanes_real, lanes_real)
  else FROM(span, columns)
#undef FROM
}
"""

# SPAN: numbers in the one or two vectors of a row; BLOCKS: such rows in a group of channels.
FORWARD = """
static void NAME(const real *x, const real *w, const real *bias, real *y, real *t) {
  CONSTANTS
  enum { WIDE = (OG + lanes_real - 1) / lanes_real % 2 ? 1 : 2, SPAN = WIDE * lanes_real,
         BLOCKS = (OG + SPAN - 1) / SPAN };
  real *m = t;
  for (long k = 0; k < GROUPS * BLOCKS; k++)
    for (long c = 0; c < CG; c++)
      for (long a = 0; a < KH; a++)
        for (long b = 0; b < KW; b++)
          for (long i = 0, o = k % BLOCKS * SPAN; i < SPAN; i++, o++)
            *m++ = o < OG ? w[(k / BLOCKS * OG + o) * WO + c * WC + a * WH + b * WW] : 0;
  PARALLEL
  for (long n = 0; n < N; n++) {
    real *own = t + PACKED + THREAD * OWN;
    const real *seen = x + n * XN;
    if (COPIED) {
      padded_real(seen, XC, XH, XW, C, H, W, TOP, LEFT, PH, PW, 0, own);
      seen = own, own += FRAME;
    }
    for (long k = 0; k < GROUPS * BLOCKS; k++) {
      tiles_real(OH, OW, WIDE, 0, seen + k / BLOCKS * CG * PLANE, SH * ROW, SW, CG, PLANE, KH, DH * ROW, KW, DW,
                 t + k * CG * KH * KW * SPAN, own, OW * SPAN, SPAN);
      const long o = k % BLOCKS * SPAN, at = k / BLOCKS * OG + o;
      real *to = y + (n * O + at) * OH * OW;
      transposed_real(own, OH * OW, o + SPAN < OG ? SPAN : OG - o, SPAN, to, OH * OW, bias ? bias + at * BIAS : 0,
                      BIAS);
    }
  }
}
"""
INPUT_GRAD = """
static void NAME(const real *g, const real *w, real *x, real *t) {
  CONSTANTS
  enum { WIDE = (CG + lanes_real - 1) / lanes_real % 2 ? 1 : 2, SPAN = WIDE * lanes_real,
         BLOCKS = (CG + SPAN - 1) / SPAN };
  real *m = t;
  for (long k = 0; k < GROUPS * BLOCKS; k++)
    for (long a = 0; a < KH; a++)
      for (long b = 0; b < KW; b++)
        for (long o = 0; o < OG; o++)
          for (long i = 0, c = k % BLOCKS * SPAN; i < SPAN; i++, c++)
            *m++ = c < CG ? w[(k / BLOCKS * OG + o) * WO + c * WC + a * WH + b * WW] : 0;
  PARALLEL
  for (long n = 0; n < N; n++) {
    real *own = t + PACKED + THREAD * OWN;
    const real *seen = g + n * XN;
    if (COPIED) {
      padded_real(seen, XC, XH, XW, O, OH, OW, 0, 0, OH, OW, 0, own);
      seen = own, own += FRAME;
    }
    for (long k = 0; k < GROUPS * BLOCKS; k++) {
      memset(own, 0, PH * PW * SPAN * sizeof(real));
      for (long a = 0; a < KH; a++)
        for (long b = 0; b < KW; b++)
          tiles_real(OH, OW, WIDE, 1, seen + k / BLOCKS * OG * OH * OW, OW, 1, 1, 0, 1, 0, OG, OH * OW,
                     t + ((k * KH + a) * KW + b) * OG * SPAN, own + (a * DH * PW + b * DW) * SPAN, SH * PW * SPAN,
                     SW * SPAN);
      const long c = k % BLOCKS * SPAN;
      real *to = x + (n * C + k / BLOCKS * CG + c) * H * W;
      const long columns = c + SPAN < CG ? SPAN : CG - c;
      if (W == PW)
        transposed_real(own + TOP * PW * SPAN, H * W, columns, SPAN, to, H * W, 0, 0);
      else
        for (long i = 0; i < H; i++)
          transposed_real(own + ((TOP + i) * PW + LEFT) * SPAN, W, columns, SPAN, to + i * W, H * W, 0, 0);
    }
  }
}
"""
WEIGHT_GRAD = """
static void NAME(const real *x, const real *g, real *w, real *t) {
  CONSTANTS
  enum { WIDE = (OG + lanes_real - 1) / lanes_real % 2 ? 1 : 2, SPAN = WIDE * lanes_real,
         BLOCKS = (OG + SPAN - 1) / SPAN, TAPS = CG * KH * KW };
  for (long k = 0; k < THREADS; k++) memset(t + k * OWN, 0, GROUPS * BLOCKS * TAPS * SPAN * sizeof(real));
  PARALLEL
  for (long n = 0; n < N; n++) {
    real *sums = t + THREAD * OWN, *m = sums + PACKED, *own = m + OH * OW * SPAN;
    const real *seen = x + n * XN;
    if (COPIED) {
      padded_real(seen, XC, XH, XW, C, H, W, TOP, LEFT, PH, PW, 0, own);
      seen = own;
    }
    for (long k = 0; k < GROUPS * BLOCKS; k++) {
      const long o = k % BLOCKS * SPAN, at = k / BLOCKS * OG + o;
      for (long i = 0; i < OH; i++)
        for (long j = 0; j < OW; j++) {
          const real *from = g + n * GN + at * GC + i * GH + j * GW;
          real *to = m + (i * OW + j) * SPAN;
          if (o + SPAN <= OG) for (long l = 0; l < SPAN; l++) to[l] = from[l * GC];
          else for (long l = 0; l < SPAN; l++) to[l] = o + l < OG ? from[l * GC] : 0;
        }
      const real *from = seen + k / BLOCKS * CG * PLANE;
      real *to = sums + k * TAPS * SPAN;
      if (KH == 1)
        tiles_real(CG, KW, WIDE, 1, from, PLANE, DW, 1, 0, OH, SH * ROW, OW, SW, m, to, KW * SPAN, SPAN);
      else
        for (long c = 0; c < CG; c++)
          tiles_real(KH, KW, WIDE, 1, from + c * PLANE, DH * ROW, DW, 1, 0, OH, SH * ROW, OW, SW, m,
                     to + c * KH * KW * SPAN, KW * SPAN, SPAN);
    }
  }
  for (long k = 0; k < GROUPS * BLOCKS; k++)
    for (long l = 0; l < TAPS; l++)
      for (long i = 0, o = k % BLOCKS * SPAN; i < SPAN && o < OG; i++, o++) {
        real sum = 0;
        for (long thread = 0; thread < THREADS; thread++) sum += t[thread * OWN + (k * TAPS + l) * SPAN + i];
        w[(k / BLOCKS * OG + o) * TAPS + l] = sum;
      }
}
"""
LOOPS_FORWARD = """
static void NAME(const real *x, const real *w, const real *bias, real *y, real *t) {
  CONSTANTS
  PARALLEL
  for (long n = 0; n < N; n++) {
    const real *seen = x + n * XN;
    if (COPIED) {
      real *own = t + THREAD * OWN;
      padded_real(seen, XC, XH, XW, C, H, W, TOP, LEFT, PH, PW, 0, own);
      seen = own;
    }
    for (long o = 0; o < O; o++)
      for (long i = 0; i < OH; i++) {
        real *to = y + ((n * O + o) * OH + i) * OW;
        for (long j = 0; j < OW; j++) to[j] = bias ? bias[o * BIAS] : 0;
        for (long c = 0; c < CG; c++)
          for (long a = 0; a < KH; a++) {
            const real *from = seen + (o / OG * CG + c) * PLANE + (i * SH + a * DH) * ROW;
            const real *v = w + o * WO + c * WC + a * WH;
            #pragma omp simd
            for (long j = 0; j < OW; j++)
              UNROLLED
              for (int b = 0; b < KW; b++) to[j] += v[b * WW] * from[j * SW + b * DW];
          }
      }
  }
}
"""
# In the other two, g lies in a frame as large as the padded image, with zeros where the kernel does not stop. Then
# what a tap sees of a whole image is one line of memory, from BEFORE numbers earlier or AFTER numbers later.
SPREAD = """
INLINE void spread_real(const real *g, const long gh, const long gw, const long oh, const long ow, const long down,
                        const long across, real *out) {
  for (long i = 0; i < oh; i++)
    for (long j = 0; j < ow; j++) out[i * down + j * across] = g[i * gh + j * gw];
}
"""
LOOPS_INPUT_GRAD = """
static void NAME(const real *g, const real *w, real *x, real *t) {
  CONSTANTS
  PARALLEL
  for (long n = 0; n < N; n++) {
    real *sum = t + THREAD * OWN, *own = sum + PLANE + LAST;
    memset(own - LAST, 0, (PLANE + LAST) * sizeof(real));
    for (long c = 0; c < C; c++) {
      memset(sum, 0, PLANE * sizeof(real));
      for (long o = c / CG * OG; o < (c / CG + 1) * OG; o++) {
        spread_real(g + n * XN + o * XC, XH, XW, OH, OW, SH * PW, SW, own);
        for (long a = 0; a < KH; a++) {
          const real *v = w + o * WO + c % CG * WC + a * WH, *from = own - a * DH * PW;
          #pragma omp simd
          for (long q = 0; q < PLANE; q++)
            UNROLLED
            for (int b = 0; b < KW; b++) sum[q] += v[b * WW] * from[q - b * DW];
        }
      }
      for (long i = 0; i < H; i++)
        memcpy(x + ((n * C + c) * H + i) * W, sum + (TOP + i) * PW + LEFT, W * sizeof(real));
    }
  }
}
"""
LOOPS_WEIGHT_GRAD = """
static void NAME(const real *x, const real *g, real *w, real *t) {
  CONSTANTS
  memset(t, 0, THREADS * OWN * sizeof(real));
  PARALLEL
  for (long n = 0; n < N; n++) {
    real *sums = t + THREAD * OWN, *own = sums + PACKED;
    const real *seen = x + n * XN;
    if (COPIED) {
      padded_real(seen, XC, XH, XW, C, H, W, TOP, LEFT, PH, PW, 0, own + PLANE);
      seen = own + PLANE;
    }
    for (long o = 0; o < O; o++) {
      spread_real(g + n * GN + o * GC, GH, GW, OH, OW, SH * PW, SW, own);
      for (long c = 0; c < CG; c++)
        for (long a = 0; a < KH; a++)
          for (long b = 0; b < KW; b++) {
            const real *from = seen + (o / OG * CG + c) * PLANE + a * DH * ROW + b * DW;
            real sum = 0;
            #pragma omp simd reduction(+ : sum)
            for (long q = 0; q < PLANE - LAST; q++) sum += own[q] * from[q];
            sums[((o * CG + c) * KH + a) * KW + b] += sum;
          }
    }
  }
  for (long i = 0; i < O * CG * KH * KW; i++) {
    w[i] = 0;
    for (long thread = 0; thread < THREADS; thread++) w[i] += t[thread * OWN + i];
  }
}
"""
MAX_POOL = """
static void NAME(const real *x, real *y, real *t) {
  CONSTANTS
  PARALLEL
  for (long p = 0; p < PLANES; p++) {
    const real *seen = x + p / C * XN + p % C * XC;
    if (COPIED) {
      real *own = t + THREAD * OWN;
      padded_real(seen, 0, XH, XW, 1, H, W, TOP, LEFT, PH, PW, -INFINITY, own);
      seen = own;
    }
    for (long i = 0; i < OH; i++) {
      const real *from = seen + i * SH * ROW;
      real *to = y + (p * OH + i) * OW;
      #pragma omp simd
      for (long j = 0; j < OW; j++) {
        real most = from[j * SW];
        int nan = 0;
        UNROLLED
        for (int a = 0; a < KH; a++)
          UNROLLED
          for (int b = 0; b < KW; b++) {
            const real v = from[a * ROW + j * SW + b];
            most = v > most ? v : most; /* no branch: nobody can predict these */
            nan |= v != v;
          }
        to[j] = nan ? NAN : most;
      }
    }
  }
}
"""
AVG_POOL = """
static void NAME(const real *x, real *y, real *t) {
  CONSTANTS
  PARALLEL
  for (long p = 0; p < PLANES; p++) {
    const real *seen = x + p / C * XN + p % C * XC;
    if (COPIED) {
      real *own = t + THREAD * OWN;
      padded_real(seen, 0, XH, XW, 1, H, W, TOP, LEFT, PH, PW, 0, own);
      seen = own;
    }
    for (long i = 0; i < OH; i++) {
      const real *from = seen + i * SH * ROW;
      real *to = y + (p * OH + i) * OW;
      #pragma omp simd
      for (long j = 0; j < OW; j++) {
        real sum = 0;
        UNROLLED
        for (int a = 0; a < KH; a++)
          UNROLLED
          for (int b = 0; b < KW; b++) sum += from[a * ROW + j * SW + b];
        to[j] = sum / (KH * KW);
      }
    }
  }
}
"""
MAX_POOL_GRAD = """
static void NAME(const real *g, const real *x, const real *y, real *gx, real *t) {
  CONSTANTS
  PARALLEL
  for (long p = 0; p < PLANES; p++) {
    const real *seen = x + p / C * XN + p % C * XC;
    real *own = t + THREAD * OWN, *back = gx + p * H * W;
    if (COPIED) {
      padded_real(seen, 0, XH, XW, 1, H, W, TOP, LEFT, PH, PW, -INFINITY, own);
      seen = own, own += PLANE;
    }
    if (PADDED) back = own;
    if (!EXACT) memset(back, 0, PLANE * sizeof(real));
    for (long i = 0; i < OH; i++) {
      const real *from = seen + i * SH * ROW, *top = y + p / C * YN + p % C * YC + i * YH;
      const real *give = g + p / C * GN + p % C * GC + i * GH;
      real *to = back + i * SH * ROW;
      if (APART) {
        #pragma omp simd
        for (long j = 0; j < OW; j++) {
          real left = give[j * GW];
          UNROLLED
          for (int a = 0; a < KH; a++)
            UNROLLED
            for (int b = 0; b < KW; b++) {
              const int hit = from[a * ROW + j * SW + b] == top[j * YW];
              to[a * ROW + j * SW + b] = hit ? left : 0;
              left = hit ? 0 : left;
            }
        }
      } else {
        real left[OW];
        for (long j = 0; j < OW; j++) left[j] = give[j * GW];
        for (int a = 0; a < KH; a++)
          for (int b = 0; b < KW; b++) {
            #pragma omp simd
            for (long j = 0; j < OW; j++) {
              const int hit = from[a * ROW + j * SW + b] == top[j * YW];
              to[a * ROW + j * SW + b] += hit ? left[j] : 0;
              left[j] = hit ? 0 : left[j];
            }
          }
      }
    }
    if (PADDED)
      for (long i = 0; i < H; i++) memcpy(gx + (p * H + i) * W, back + (TOP + i) * PW + LEFT, W * sizeof(real));
  }
}
"""
MAX_POOL_PICK = """
static void NAME(const real *v, const real *x, const real *y, real *out, real *t) {
  CONSTANTS
  PARALLEL
  for (long p = 0; p < PLANES; p++) {
    const real *seen = x + p / C * XN + p % C * XC, *given = v + p / C * VN + p % C * VC;
    if (COPIED) {
      real *own = t + THREAD * OWN;
      padded_real(seen, 0, XH, XW, 1, H, W, TOP, LEFT, PH, PW, -INFINITY, own);
      padded_real(given, 0, VH, VW, 1, H, W, TOP, LEFT, PH, PW, 0, own + PLANE);
      seen = own, given = own + PLANE;
    }
    for (long i = 0; i < OH; i++) {
      const real *from = seen + i * SH * ROW, *pick = given + i * SH * ROW;
      const real *top = y + p / C * YN + p % C * YC + i * YH;
      real *to = out + (p * OH + i) * OW;
      #pragma omp simd
      for (long j = 0; j < OW; j++) {
        int free = 1;
        real found = 0;
        UNROLLED
        for (int a = 0; a < KH; a++)
          UNROLLED
          for (int b = 0; b < KW; b++) {
            const int hit = free & (from[a * ROW + j * SW + b] == top[j * YW]);
            found = hit ? pick[a * ROW + j * SW + b] : found;
            free ^= hit;
          }
        to[j] = found;
      }
    }
  }
}
"""
AVG_POOL_GRAD = """
static void NAME(const real *g, real *gx, real *t) {
  CONSTANTS
  PARALLEL
  for (long p = 0; p < PLANES; p++) {
    real *back = PADDED ? t + THREAD * OWN : gx + p * H * W;
    if (!EXACT) memset(back, 0, PLANE * sizeof(real));
    for (long i = 0; i < OH; i++) {
      const real *give = g + p / C * GN + p % C * GC + i * GH;
      for (int a = 0; a < KH; a++) {
        real *to = back + (i * SH + a) * ROW;
        if (APART) {
          #pragma omp simd
          for (long j = 0; j < OW; j++)
            UNROLLED
            for (int b = 0; b < KW; b++) to[j * SW + b] = give[j * GW] / (KH * KW);
        } else {
          UNROLLED
          for (int b = 0; b < KW; b++) {
            #pragma omp simd
            for (long j = 0; j < OW; j++) to[j * SW + b] += give[j * GW] / (KH * KW);
          }
        }
      }
    }
    if (PADDED)
      for (long i = 0; i < H; i++) memcpy(gx + (p * H + i) * W, back + (TOP + i) * PW + LEFT, W * sizeof(real));
  }
}
"""
HELPERS = {"tiles": TILES, "padded": PADDED, "transposed": TRANSPOSED, "spread": SPREAD}
