/* Causal attention with rotated queries and keys, and its gradient: one record and head at a time.

   Shares are never kept: the backward pass works them out again from each query's greatest score and the sum of its
   exponentials. */

#include "rows.h"

typedef struct {
    long records, places, width, heads, hidden;
} Shape;

#define QUERIES 32 /* Queries that are multiplied at once with all the keys that they may see. */

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
                    const __m512 at = _mm512_loadu_ps(row + t);
                    const __m512 x = _mm512_fmsub_ps(at, _mm512_set1_ps(scale), _mm512_set1_ps(greatest));
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
    for (long k = 0; k < size; k += 16)
        sum = _mm512_fmadd_ps(widen(a + k, first(size - k)), widen(b + k, first(size - k)), sum);
    return _mm512_reduce_add_ps(sum);
}

static void attend_back(Shape s, const half *cos, const half *sin, const half *qkv, const half *mixed,
                        const float *stats, const half *back, half *by_qkv, char *scratch) {
    const long T = s.places, D = s.width, C = D / s.heads, P = ROUND16(C);
    int32_t *keys = PIECE(int32_t, C / 2 * T), *values = PIECE(int32_t, C / 2 * T);
    int32_t *key_rows = PIECE(int32_t, T / 2 * P + 16);
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
    const long each = C * T + T / 2 * P + 3 * QUERIES * T + QUERIES / 2 * T + 2 * QUERIES * P + 2 * T * P;
    return 4 * each + 16 * 256;
}
