/* Matrix products of bfloat16 numbers with 32-bit sums, on AVX512-BF16: the one kernel that everything else here calls.

   Every operand is read as 32-bit pairs of neighbouring 16-bit numbers along the dimension that is summed over. The
   left one is read a pair at a time, wherever it lies; of the right one, 16 columns' pairs lie side by side. */

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t half; /* A bfloat16: the upper half of a float. */

#define ROUND16(n) (((n) + 15) & ~15L)
#define INLINE static inline __attribute__((always_inline))

INLINE __mmask16 first(long n) { return n >= 16 ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1); }

INLINE __m512 widen(const half *from, __mmask16 kept) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(kept, from)), 16));
}

INLINE __m256i halves(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

INLINE void narrow(half *into, __m512 x, __mmask16 kept) { _mm256_mask_storeu_epi16(into, kept, halves(x)); }

/* Two rows of 16 numbers as 16 pairs. */
INLINE __m512i paired(__m256i even, __m256i odd) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

/* e to the power of x, to 2e-7 of it; x is at most 88, and below -87 the result is next to nothing. */
INLINE __m512 exponential(__m512 x) {
    const __m512 turns = _mm512_mul_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(1.44269504f));
    const __m512 whole = _mm512_roundscale_ps(turns, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_sub_ps(turns, whole);
    __m512 sum = _mm512_set1_ps(1.5403530e-4f);
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.3333558e-3f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(9.6181291e-3f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(5.5504109e-2f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(2.4022651e-1f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(6.9314718e-1f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, whole);
}

enum { STORE, ADD, NARROW }; /* What becomes of a product: floats, added to floats, or halves. */

/* A left operand: pair p of row m is at[m * row + p * pair]. */
typedef struct {
    const int32_t *at;
    long row, pair;
} Left;

INLINE void tile(const int rows, const int vectors, const int mode, long pairs, Left a, const int32_t *b, long b_pair,
                 void *out, long out_row, long columns) {
    __m512 sum[8][3];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_ps();
    for (long p = 0; p < pairs; p++) {
        __m512bh right[3];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) right[v] = (__m512bh)_mm512_loadu_si512(b + p * b_pair + 16 * v);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const __m512bh left = (__m512bh)_mm512_set1_epi32(a.at[r * a.row + p * a.pair]);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, right[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const __mmask16 kept = first(columns - 16 * v);
            if (mode == NARROW) {
                narrow((half *)out + r * out_row + 16 * v, sum[r][v], kept);
                continue;
            }
            float *place = (float *)out + r * out_row + 16 * v;
            if (mode == ADD) sum[r][v] = _mm512_add_ps(sum[r][v], _mm512_maskz_loadu_ps(kept, place));
            _mm512_mask_storeu_ps(place, kept, sum[r][v]);
        }
}

INLINE void panel(const int vectors, const int mode, long rows, long pairs, Left a, const int32_t *b, long b_pair,
                  void *out, long out_row, long columns) {
    const long size = mode == NARROW ? sizeof(half) : sizeof(float);
    for (long m = 0; m < rows;) {
        const Left at = {a.at + m * a.row, a.row, a.pair};
        char *place = (char *)out + m * out_row * size;
        if (rows - m >= 8) {
            tile(8, vectors, mode, pairs, at, b, b_pair, place, out_row, columns);
            m += 8;
        } else {
            tile(1, vectors, mode, pairs, at, b, b_pair, place, out_row, columns);
            m += 1;
        }
    }
}

/* out [rows, columns] = or += a times b [pairs, columns], whose rows are readable to a multiple of 16 columns. */
INLINE void product(const int mode, long rows, long columns, long pairs, Left a, const int32_t *b, long b_pair,
                    void *out, long out_row) {
    const long size = mode == NARROW ? sizeof(half) : sizeof(float);
    for (long n = 0; n < columns; n += 48) {
        const long left = columns - n;
        char *place = (char *)out + n * size;
        if (left > 32) panel(3, mode, rows, pairs, a, b + n, b_pair, place, out_row, left);
        else if (left > 16) panel(2, mode, rows, pairs, a, b + n, b_pair, place, out_row, left);
        else panel(1, mode, rows, pairs, a, b + n, b_pair, place, out_row, left);
    }
}

#define PRODUCT(name, mode)                                                                                      \
    static __attribute__((noinline)) void name(long rows, long columns, long pairs, Left a, const int32_t *b,     \
                                               long b_pair, void *out, long out_row) {                            \
        product(mode, rows, columns, pairs, a, b, b_pair, out, out_row);                                         \
    }
PRODUCT(product_store, STORE)
PRODUCT(product_add, ADD)
PRODUCT(product_narrow, NARROW)

/* Weights [outputs, inputs] as the right operand of x times their transpose: pairs of inputs, outputs side by side. */
static void pack_across(const float *weights, long outputs, long inputs, int32_t *into) {
    const long row = ROUND16(outputs);
    for (long n = 0; n < row; n += 16)
        for (long k = 0; k < inputs; k += 16) {
            int32_t block[16][8];
            for (int i = 0; i < 16; i++) {
                const __mmask16 kept = n + i < outputs ? first(inputs - k) : 0;
                const __m512 at = _mm512_maskz_loadu_ps(kept, weights + (n + i) * inputs + k);
                _mm256_storeu_si256((__m256i *)block[i], halves(at));
            }
            const long pairs = (inputs - k < 16 ? inputs - k : 16) / 2;
            for (long p = 0; p < pairs; p++)
                for (int i = 0; i < 16; i++) into[(k / 2 + p) * row + n + i] = block[i][p];
        }
}

/* The same weights as the right operand of a gradient of the outputs: pairs of outputs, inputs side by side. */
static void pack_along(const float *weights, long outputs, long inputs, int32_t *into) {
    const long row = ROUND16(inputs);
    for (long p = 0; p < outputs / 2; p++)
        for (long k = 0; k < inputs; k += 16) {
            const __mmask16 kept = first(inputs - k);
            const float *even = weights + 2 * p * inputs + k;
            _mm512_storeu_si512(into + p * row + k, paired(halves(_mm512_maskz_loadu_ps(kept, even)),
                                                           halves(_mm512_maskz_loadu_ps(kept, even + inputs))));
        }
}

/* Rows of halves [rows, columns] as pairs of rows, columns side by side: either operand of a sum over rows. */
static void pair_rows(const half *from, long from_row, long rows, long columns, int32_t *into, long into_row) {
    for (long p = 0; p < rows / 2; p++)
        for (long k = 0; k < columns; k += 16) {
            const __mmask16 kept = first(columns - k);
            const half *even = from + 2 * p * from_row + k;
            _mm512_storeu_si512(into + p * into_row + k, paired(_mm256_maskz_loadu_epi16(kept, even),
                                                                _mm256_maskz_loadu_epi16(kept, even + from_row)));
        }
}
