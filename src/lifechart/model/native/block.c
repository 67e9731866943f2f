/* One block of the backbone, forward and backward, in 16 bits on a CPU with AVX512-BF16.

   What torch does here in some fifty passes over memory is done a few rows at a time, in the core's own cache. Kept for
   the backward pass are the block's input, rotated queries and keys with values, two numbers for each query and head, what
   attention mixed, the stream after it and the gate's input; all else is worked out again. The slow twin is
   lifechart.model.backbone.Block in 32 bits (tests/model/test_native.py). Sums, norms and softmax are in 32 bits.

   Shapes: R records, T places of each (a multiple of 16), D width, H heads, C = D / H, G hidden units of the gate. */

#include "products.h"

#define QUERIES 32 /* Queries that are multiplied at once with all the keys that they may see. */
#define ROWS 128   /* Rows that pass through the linear layers at once. */
#define GROUP 256  /* Places that pass through a whole block at once, if records are no longer. */

typedef struct {
    long records, places, width, heads, hidden;
} Shape;

typedef struct {
    const float *norm, *qkv, *attended, *gate_norm, *gate, *down;
} Weights;

typedef struct {
    float *norm, *qkv, *attended, *gate_norm, *gate, *down;
} Slopes;

typedef struct {
    half *qkv, *mixed;
    float *stats; /* [R, H, T, 2]: each query's greatest score, and one over the sum of the exponentials. */
    half *middle, *both;
} Kept;

typedef struct {
    long dropped; /* Of 256. */
    uint64_t seed;
} Dropout;

/* Takes 64-byte aligned pieces off a stretch of memory; from nothing, it counts what they come to. */
static void *piece(char **from, long bytes) {
    char *here = *from;
    *from = here + ((bytes + 127) & ~63L);
    return here;
}
#define PIECE(type, number) (type *)piece(&scratch, (number) * (long)sizeof(type))

/* ---- Norm, gate, dropout, rotation: a row each. */

static float inverse_size(const half *x, long width) {
    __m512 sum = _mm512_setzero_ps();
    for (long k = 0; k < width; k += 16) {
        const __m512 at = widen(x + k, first(width - k));
        sum = _mm512_fmadd_ps(at, at, sum);
    }
    return 1.0f / sqrtf(_mm512_reduce_add_ps(sum) / width + 1e-5f);
}

static void normalise(const half *x, const float *weight, long width, half *into) {
    const __m512 inverse = _mm512_set1_ps(inverse_size(x, width));
    for (long k = 0; k < width; k += 16) {
        const __mmask16 kept = first(width - k);
        const __m512 scaled = _mm512_mul_ps(widen(x + k, kept), inverse);
        narrow(into + k, _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(kept, weight + k)), kept);
    }
}

/* into = onto + the norm's gradient of `back` at x; the weight's own is added to `by_weight`. */
static void normalise_back(const half *x, const float *weight, const float *back, long width, const half *onto,
                           half *into, float *by_weight) {
    const float inverse = inverse_size(x, width);
    __m512 sum = _mm512_setzero_ps();
    for (long k = 0; k < width; k += 16) {
        const __mmask16 kept = first(width - k);
        const __m512 scaled = _mm512_mul_ps(widen(x + k, kept), _mm512_set1_ps(inverse));
        const __m512 along = _mm512_mul_ps(scaled, _mm512_maskz_loadu_ps(kept, back + k));
        sum = _mm512_fmadd_ps(along, _mm512_maskz_loadu_ps(kept, weight + k), sum);
        _mm512_mask_storeu_ps(by_weight + k, kept, _mm512_add_ps(along, _mm512_maskz_loadu_ps(kept, by_weight + k)));
    }
    const __m512 share = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width * inverse);
    for (long k = 0; k < width; k += 16) {
        const __mmask16 kept = first(width - k);
        const __m512 at = widen(x + k, kept), slope = _mm512_maskz_loadu_ps(kept, weight + k);
        __m512 in = _mm512_mul_ps(_mm512_maskz_loadu_ps(kept, back + k), slope);
        in = _mm512_mul_ps(_mm512_fnmadd_ps(at, share, in), _mm512_set1_ps(inverse));
        narrow(into + k, _mm512_add_ps(in, widen(onto + k, kept)), kept);
    }
}

INLINE __m512 sigmoid(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f), bounded = _mm512_max_ps(x, _mm512_set1_ps(-80.0f));
    return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), bounded),
                                                                            _mm512_set1_ps(80.0f)))));
}

static void open_gate(const half *both, long hidden, half *into) {
    for (long k = 0; k < hidden; k += 16) {
        const __mmask16 kept = first(hidden - k);
        const __m512 gate = widen(both + k, kept), value = widen(both + hidden + k, kept);
        narrow(into + k, _mm512_mul_ps(_mm512_mul_ps(gate, sigmoid(gate)), value), kept);
    }
}

static void open_gate_back(const half *both, const half *back, long hidden, half *by_both, half *gated) {
    const __m512 one = _mm512_set1_ps(1.0f);
    for (long k = 0; k < hidden; k += 16) {
        const __mmask16 kept = first(hidden - k);
        const __m512 gate = widen(both + k, kept), value = widen(both + hidden + k, kept), in = widen(back + k, kept);
        const __m512 share = sigmoid(gate), opened = _mm512_mul_ps(gate, share);
        const __m512 slope = _mm512_fmadd_ps(opened, _mm512_sub_ps(one, share), share);
        narrow(gated + k, _mm512_mul_ps(opened, value), kept);
        narrow(by_both + k, _mm512_mul_ps(_mm512_mul_ps(in, value), slope), kept);
        narrow(by_both + hidden + k, _mm512_mul_ps(in, opened), kept);
    }
}

/* A random byte for each element of a row: a counter through splitmix64, so that a mask can be drawn again. */
void random_bytes(uint64_t seed, long site, long row, long width, uint8_t *into) {
    const __m512i steps = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
    for (long k = 0; k < width; k += 64) {
        const uint64_t counter = ((uint64_t)(2 * row + site) << 20) + (uint64_t)k / 8;
        __m512i z = _mm512_add_epi64(_mm512_set1_epi64((long long)counter), steps);
        z = _mm512_add_epi64(_mm512_mullo_epi64(z, _mm512_set1_epi64((long long)0x9e3779b97f4a7c15ULL)),
                             _mm512_set1_epi64((long long)seed));
        z = _mm512_xor_si512(z, _mm512_srli_epi64(z, 30));
        z = _mm512_mullo_epi64(z, _mm512_set1_epi64((long long)0xbf58476d1ce4e5b9ULL));
        z = _mm512_xor_si512(z, _mm512_srli_epi64(z, 27));
        z = _mm512_mullo_epi64(z, _mm512_set1_epi64((long long)0x94d049bb133111ebULL));
        _mm512_storeu_si512(into + k, _mm512_xor_si512(z, _mm512_srli_epi64(z, 31)));
    }
}

/* into = onto + dropout(x); x is floats or halves, whichever is not null, and `onto` may be null. */
static void drop(Dropout how, long site, long row, const float *x, const half *x_half, const half *onto, long width,
                 half *into, uint8_t *bytes) {
    if (how.dropped) random_bytes(how.seed, site, row, width, bytes);
    const __m512 scale = _mm512_set1_ps(256.0f / (256 - how.dropped));
    for (long k = 0; k < width; k += 16) {
        const __mmask16 real = first(width - k);
        __m512 at = x ? _mm512_maskz_loadu_ps(real, x + k) : widen(x_half + k, real);
        if (how.dropped) {
            const __m128i drawn = _mm_loadu_si128((const __m128i *)(bytes + k));
            at = _mm512_maskz_mul_ps(_mm_cmpge_epu8_mask(drawn, _mm_set1_epi8((char)how.dropped)), at, scale);
        }
        narrow(into + k, onto ? _mm512_add_ps(at, widen(onto + k, real)) : at, real);
    }
}

/* Turn the pairs (first half, second half) of one head; `sign` -1 turns them back. */
INLINE void turn(const float *x, const half *cos, const half *sin, float sign, long dims, half *into) {
    const long pairs = dims / 2;
    const __m512 way = _mm512_set1_ps(sign);
    for (long k = 0; k < pairs; k += 16) {
        const __mmask16 kept = first(pairs - k);
        const __m512 one = _mm512_maskz_loadu_ps(kept, x + k), other = _mm512_maskz_loadu_ps(kept, x + pairs + k);
        const __m512 by_one = _mm512_mul_ps(way, widen(sin + k, kept));
        const __m512 by_other = _mm512_mul_ps(way, widen(sin + pairs + k, kept));
        narrow(into + k, _mm512_fmadd_ps(other, by_one, _mm512_mul_ps(one, widen(cos + k, kept))), kept);
        narrow(into + pairs + k, _mm512_fmadd_ps(one, by_other, _mm512_mul_ps(other, widen(cos + pairs + k, kept))), kept);
    }
}

/* ---- Attention: one record and head at a time. */

/* Rows [T, C] of one head as the right operand of scores: pairs of dimensions, places side by side. */
static void pack_places(const half *from, long row, long places, long dims, int32_t *into) {
    for (long t = 0; t < places; t++)
        for (long p = 0; p < dims / 2; p++) memcpy(into + p * places + t, from + t * row + 2 * p, 4);
}

INLINE Left rows_of(const half *at, long row) { return (Left){(const int32_t *)at, row / 2, 1}; }

static void attend(Shape s, const half *qkv, half *mixed, float *stats, char *scratch) {
    const long T = s.places, D = s.width, C = D / s.heads, P = ROUND16(C);
    int32_t *keys = PIECE(int32_t, C / 2 * T), *values = PIECE(int32_t, T / 2 * P + 16);
    float *scores = PIECE(float, QUERIES * T), *out = PIECE(float, QUERIES * P);
    half *shares = PIECE(half, QUERIES * T);
    const float scale = 1.0f / sqrtf(C);
    for (long each = 0; each < s.records * s.heads; each++, stats += 2 * T) {
        const long start = each / s.heads * T, head = each % s.heads * C;
        const half *base = qkv + start * 3 * D + head;
        pack_places(base + D, 3 * D, T, C, keys);
        pair_rows(base + 2 * D, 3 * D, T, C, values, P);
        for (long from = 0; from < T; from += QUERIES) {
            const long num = T - from < QUERIES ? T - from : QUERIES, seen = from + num;
            product_store(num, seen, C / 2, rows_of(base + from * 3 * D, 3 * D), keys, T, scores, T);
            for (long i = 0; i < num; i++) {
                const float *row = scores + i * T;
                const long last = from + i + 1;
                __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
                for (long t = 0; t < last; t += 16)
                    most = _mm512_mask_max_ps(most, first(last - t), most, _mm512_loadu_ps(row + t));
                const float greatest = _mm512_reduce_max_ps(most) * scale;
                for (long t = 0; t < seen; t += 16) {
                    const __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(row + t), _mm512_set1_ps(scale), _mm512_set1_ps(greatest));
                    const __m512 e = _mm512_maskz_mov_ps(first(last - t), exponential(x));
                    sum = _mm512_add_ps(sum, e);
                    narrow(shares + i * T + t, e, 0xffff);
                }
                stats[2 * (from + i)] = greatest;
                stats[2 * (from + i) + 1] = 1.0f / _mm512_reduce_add_ps(sum);
            }
            product_store(num, C, seen / 2, rows_of(shares, T), values, P, out, P);
            for (long i = 0; i < num; i++)
                for (long c = 0; c < C; c += 16) {
                    const __m512 inverse = _mm512_set1_ps(stats[2 * (from + i) + 1]);
                    half *into = mixed + (start + from + i) * D + head + c;
                    narrow(into, _mm512_mul_ps(_mm512_loadu_ps(out + i * P + c), inverse), first(C - c));
                }
        }
    }
}

static float dot(const half *a, const half *b, long size) {
    __m512 sum = _mm512_setzero_ps();
    for (long k = 0; k < size; k += 16) sum = _mm512_fmadd_ps(widen(a + k, first(size - k)), widen(b + k, first(size - k)), sum);
    return _mm512_reduce_add_ps(sum);
}

static void attend_back(Shape s, const half *cos, const half *sin, const half *qkv, const half *mixed,
                        const float *stats, const half *back, half *by_qkv, char *scratch) {
    const long T = s.places, D = s.width, C = D / s.heads, P = ROUND16(C);
    int32_t *keys = PIECE(int32_t, C / 2 * T), *values = PIECE(int32_t, C / 2 * T), *key_rows = PIECE(int32_t, T / 2 * P + 16);
    float *scores = PIECE(float, QUERIES * T), *by_shares = PIECE(float, QUERIES * T);
    half *by_scores = PIECE(half, QUERIES * T);
    int32_t *shares_paired = PIECE(int32_t, QUERIES / 2 * T), *by_scores_paired = PIECE(int32_t, QUERIES / 2 * T);
    int32_t *queries = PIECE(int32_t, QUERIES / 2 * P + 16), *backs = PIECE(int32_t, QUERIES / 2 * P + 16);
    float *by_query = PIECE(float, QUERIES * P), *by_key = PIECE(float, T * P), *by_value = PIECE(float, T * P);
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(C));
    for (long each = 0; each < s.records * s.heads; each++, stats += 2 * T) {
        const long start = each / s.heads * T, head = each % s.heads * C;
        const half *base = qkv + start * 3 * D + head, *turns[2] = {cos + start * C, sin + start * C};
        const half *outs = mixed + start * D + head, *ins = back + start * D + head;
        half *into = by_qkv + start * 3 * D + head;
        pack_places(base + D, 3 * D, T, C, keys);
        pack_places(base + 2 * D, 3 * D, T, C, values);
        pair_rows(base + D, 3 * D, T, C, key_rows, P);
        memset(by_key, 0, T * P * sizeof(float));
        memset(by_value, 0, T * P * sizeof(float));
        for (long from = 0; from < T; from += QUERIES) {
            const long num = T - from < QUERIES ? T - from : QUERIES, seen = from + num;
            product_store(num, seen, C / 2, rows_of(base + from * 3 * D, 3 * D), keys, T, scores, T);
            product_store(num, seen, C / 2, rows_of(ins + from * D, D), values, T, by_shares, T);
            for (long i = 0; i < num; i += 2) {
                __m512 greatest[2], inverse[2], along[2];
                for (int k = 0; k < 2; k++) {
                    const long at = from + i + k;
                    greatest[k] = _mm512_set1_ps(stats[2 * at]), inverse[k] = _mm512_set1_ps(stats[2 * at + 1]);
                    along[k] = _mm512_set1_ps(dot(ins + at * D, outs + at * D, C));
                }
                for (long t = 0; t < seen; t += 16) {
                    __m256i share[2], by_score[2];
                    for (int k = 0; k < 2; k++) {
                        const __m512 x = _mm512_fmsub_ps(_mm512_loadu_ps(scores + (i + k) * T + t), scale, greatest[k]);
                        const __m512 e = _mm512_maskz_mul_ps(first(from + i + k + 1 - t), exponential(x), inverse[k]);
                        const __m512 by = _mm512_sub_ps(_mm512_loadu_ps(by_shares + (i + k) * T + t), along[k]);
                        share[k] = halves(e), by_score[k] = halves(_mm512_mul_ps(_mm512_mul_ps(e, by), scale));
                        _mm256_storeu_si256((__m256i *)(by_scores + (i + k) * T + t), by_score[k]);
                    }
                    _mm512_storeu_si512(shares_paired + i / 2 * T + t, paired(share[0], share[1]));
                    _mm512_storeu_si512(by_scores_paired + i / 2 * T + t, paired(by_score[0], by_score[1]));
                }
            }
            pair_rows(base + from * 3 * D, 3 * D, num, C, queries, P);
            pair_rows(ins + from * D, D, num, C, backs, P);
            product_store(num, C, seen / 2, rows_of(by_scores, T), key_rows, P, by_query, P);
            product_add(seen, C, num / 2, (Left){by_scores_paired, 1, T}, queries, P, by_key, P);
            product_add(seen, C, num / 2, (Left){shares_paired, 1, T}, backs, P, by_value, P);
            for (long i = 0; i < num; i++) {
                const long at = from + i;
                turn(by_query + i * P, turns[0] + at * C, turns[1] + at * C, -1.0f, C, into + at * 3 * D);
            }
        }
        for (long t = 0; t < T; t++) {
            turn(by_key + t * P, turns[0] + t * C, turns[1] + t * C, -1.0f, C, into + t * 3 * D + D);
            for (long c = 0; c < C; c += 16)
                narrow(into + t * 3 * D + 2 * D + c, _mm512_loadu_ps(by_value + t * P + c), first(C - c));
        }
    }
}

static long attention_bytes(Shape s) {
    const long T = s.places, C = s.width / s.heads, P = ROUND16(C);
    return 4 * (2 * (C / 2) * T + T / 2 * P + 2 * QUERIES * T + QUERIES / 2 * T + QUERIES * T + 2 * QUERIES * P + 2 * T * P) +
           16 * 256;
}

/* ---- The block. `from` is the number of its first row in the whole part: dropout is drawn by it. */

typedef struct {
    int32_t *qkv, *attended, *gate, *down;
} Packed;

static void forward_group(Shape s, long from, const half *x, const half *cos, const half *sin, Weights w, Packed by,
                          Dropout how, Kept kept, half *out, char *scratch) {
    const long D = s.width, G = s.hidden, C = D / s.heads, num = s.records * s.places, wide = ROUND16(3 * D);
    float *floats = PIECE(float, ROWS * wide);
    half *normed = PIECE(half, ROWS * D + 16), *gated = PIECE(half, ROWS * G + 16);
    uint8_t *bytes = PIECE(uint8_t, D + 64);
    for (long m = 0; m < num; m += ROWS) {
        const long rows = num - m < ROWS ? num - m : ROWS;
        for (long i = 0; i < rows; i++) normalise(x + (m + i) * D, w.norm, D, normed + i * D);
        product_store(rows, 3 * D, D / 2, rows_of(normed, D), by.qkv, wide, floats, wide);
        for (long i = 0; i < rows; i++) {
            half *into = kept.qkv + (m + i) * 3 * D;
            const half *turns[2] = {cos + (m + i) * C, sin + (m + i) * C};
            for (long c = 0; c < 2 * D; c += C) turn(floats + i * wide + c, turns[0], turns[1], 1.0f, C, into + c);
            for (long c = 2 * D; c < 3 * D; c += 16) narrow(into + c, _mm512_loadu_ps(floats + i * wide + c), first(3 * D - c));
        }
    }
    attend(s, kept.qkv, kept.mixed, kept.stats, scratch);
    for (long m = 0; m < num; m += ROWS) {
        const long rows = num - m < ROWS ? num - m : ROWS, row = ROUND16(D);
        product_store(rows, D, D / 2, rows_of(kept.mixed + m * D, D), by.attended, row, floats, row);
        for (long i = 0; i < rows; i++) {
            half *middle = kept.middle + (m + i) * D;
            drop(how, 0, from + m + i, floats + i * row, NULL, x + (m + i) * D, D, middle, bytes);
            normalise(middle, w.gate_norm, D, normed + i * D);
        }
        half *both = kept.both + m * 2 * G;
        product_narrow(rows, 2 * G, D / 2, rows_of(normed, D), by.gate, ROUND16(2 * G), both, 2 * G);
        for (long i = 0; i < rows; i++) open_gate(both + i * 2 * G, G, gated + i * G);
        product_store(rows, D, G / 2, rows_of(gated, G), by.down, row, floats, row);
        for (long i = 0; i < rows; i++)
            drop(how, 1, from + m + i, floats + i * row, NULL, kept.middle + (m + i) * D, D, out + (m + i) * D, bytes);
    }
}

static void backward_group(Shape s, long from, const half *x, const half *cos, const half *sin, Weights w, Packed by,
                           Dropout how, Kept kept, const half *back, half *into, Slopes slopes, char *scratch) {
    const long D = s.width, G = s.hidden, num = s.records * s.places, row = ROUND16(D);
    half *by_mixed = PIECE(half, num * D + 16), *by_qkv = PIECE(half, num * 3 * D + 16);
    half *dropped = PIECE(half, ROWS * D + 16), *by_gated = PIECE(half, ROWS * G + 16), *by_both = PIECE(half, ROWS * 2 * G + 16);
    half *gated = PIECE(half, ROWS * G + 16), *normed = PIECE(half, ROWS * D + 16);
    float *floats = PIECE(float, ROWS * row);
    int32_t *left = PIECE(int32_t, ROWS / 2 * ROUND16(2 * G > 3 * D ? 2 * G : 3 * D) + 16);
    int32_t *right = PIECE(int32_t, ROWS / 2 * ROUND16(G > D ? G : D) + 16);
    uint8_t *bytes = PIECE(uint8_t, D + 64);
    for (long m = 0; m < num; m += ROWS) {
        const long rows = num - m < ROWS ? num - m : ROWS;
        for (long i = 0; i < rows; i++) {
            drop(how, 1, from + m + i, NULL, back + (m + i) * D, NULL, D, dropped + i * D, bytes);
            normalise(kept.middle + (m + i) * D, w.gate_norm, D, normed + i * D);
        }
        product_narrow(rows, G, D / 2, rows_of(dropped, D), by.down, ROUND16(G), by_gated, G);
        for (long i = 0; i < rows; i++)
            open_gate_back(kept.both + (m + i) * 2 * G, by_gated + i * G, G, by_both + i * 2 * G, gated + i * G);
        pair_rows(dropped, D, rows, D, left, row);
        pair_rows(gated, G, rows, G, right, ROUND16(G));
        product_add(D, G, rows / 2, (Left){left, 1, row}, right, ROUND16(G), slopes.down, G);
        pair_rows(by_both, 2 * G, rows, 2 * G, left, ROUND16(2 * G));
        pair_rows(normed, D, rows, D, right, row);
        product_add(2 * G, D, rows / 2, (Left){left, 1, ROUND16(2 * G)}, right, row, slopes.gate, D);
        product_store(rows, D, G, rows_of(by_both, 2 * G), by.gate, row, floats, row);
        for (long i = 0; i < rows; i++) {
            const long at = (m + i) * D;
            normalise_back(kept.middle + at, w.gate_norm, floats + i * row, D, back + at, into + at, slopes.gate_norm);
            drop(how, 0, from + m + i, NULL, into + at, NULL, D, dropped + i * D, bytes);
        }
        product_narrow(rows, D, D / 2, rows_of(dropped, D), by.attended, row, by_mixed + m * D, D);
        pair_rows(dropped, D, rows, D, left, row);
        pair_rows(kept.mixed + m * D, D, rows, D, right, row);
        product_add(D, D, rows / 2, (Left){left, 1, row}, right, row, slopes.attended, D);
    }
    attend_back(s, cos, sin, kept.qkv, kept.mixed, kept.stats, by_mixed, by_qkv, scratch);
    for (long m = 0; m < num; m += ROWS) {
        const long rows = num - m < ROWS ? num - m : ROWS;
        for (long i = 0; i < rows; i++) normalise(x + (m + i) * D, w.norm, D, normed + i * D);
        pair_rows(by_qkv + m * 3 * D, 3 * D, rows, 3 * D, left, ROUND16(3 * D));
        pair_rows(normed, D, rows, D, right, row);
        product_add(3 * D, D, rows / 2, (Left){left, 1, ROUND16(3 * D)}, right, row, slopes.qkv, D);
        product_store(rows, D, 3 * D / 2, rows_of(by_qkv + m * 3 * D, 3 * D), by.qkv, row, floats, row);
        for (long i = 0; i < rows; i++) {
            const long at = (m + i) * D;
            normalise_back(x + at, w.norm, floats + i * row, D, into + at, into + at, slopes.norm);
        }
    }
}

static Shape group_of(Shape s) {
    const long records = GROUP / s.places > 1 ? GROUP / s.places : 1;
    s.records = records < s.records ? records : s.records;
    return s;
}

static Packed packed(Shape s, char **from) {
    char *scratch = *from;
    const long D = s.width, G = s.hidden, row = ROUND16(D);
    Packed by;
    by.qkv = PIECE(int32_t, 3 * D / 2 * row + D / 2 * ROUND16(3 * D) + 16);
    by.attended = PIECE(int32_t, D / 2 * row + 16);
    by.gate = PIECE(int32_t, G * row + D / 2 * ROUND16(2 * G) + 16);
    by.down = PIECE(int32_t, D / 2 * ROUND16(G) + G / 2 * row + 16);
    *from = scratch;
    return by;
}

/* Bytes of scratch that either pass may use. */
long scratch_bytes(Shape s) {
    const Shape g = group_of(s);
    const long D = s.width, G = s.hidden, num = g.records * g.places;
    char *end = NULL;
    packed(s, &end);
    return (long)(intptr_t)end + attention_bytes(s) + num * 4 * D * 2 + ROWS * (6 * D + 8 * G + 6 * (ROUND16(3 * D) + ROUND16(2 * G))) +
           D + 64 * 128;
}

void block_forward(Shape s, const half *x, const half *cos, const half *sin, Weights w, Dropout how, Kept kept,
                   half *out, char *scratch) {
    const Packed by = packed(s, &scratch);
    const long D = s.width, G = s.hidden, T = s.places;
    pack_across(w.qkv, 3 * D, D, by.qkv);
    pack_across(w.attended, D, D, by.attended);
    pack_across(w.gate, 2 * G, D, by.gate);
    pack_across(w.down, D, G, by.down);
    Shape g = group_of(s);
    for (long r = 0; r < s.records; r += g.records) {
        g.records = s.records - r < g.records ? s.records - r : g.records;
        const long m = r * T, C = D / s.heads;
        const Kept here = {kept.qkv + m * 3 * D, kept.mixed + m * D, kept.stats + m * s.heads * 2, kept.middle + m * D, kept.both + m * 2 * G};
        forward_group(g, m, x + m * D, cos + m * C, sin + m * C, w, by, how, here, out + m * D, scratch);
    }
}

void block_backward(Shape s, const half *x, const half *cos, const half *sin, Weights w, Dropout how, Kept kept,
                    const half *back, half *into, Slopes slopes, char *scratch) {
    const Packed by = packed(s, &scratch);
    const long D = s.width, G = s.hidden, T = s.places;
    pack_along(w.qkv, 3 * D, D, by.qkv);
    pack_along(w.attended, D, D, by.attended);
    pack_along(w.gate, 2 * G, D, by.gate);
    pack_along(w.down, D, G, by.down);
    Shape g = group_of(s);
    for (long r = 0; r < s.records; r += g.records) {
        g.records = s.records - r < g.records ? s.records - r : g.records;
        const long m = r * T, C = D / s.heads;
        const Kept here = {kept.qkv + m * 3 * D, kept.mixed + m * D, kept.stats + m * s.heads * 2, kept.middle + m * D, kept.both + m * 2 * G};
        backward_group(g, m, x + m * D, cos + m * C, sin + m * C, w, by, how, here, back + m * D, into + m * D, slopes, scratch);
    }
}
