/* What a block does to a row at a time, with its gradient: norm, gate, dropout, rotation; and memory in pieces. */

#include "products.h"

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
        const __m512 straight = _mm512_mul_ps(other, widen(cos + pairs + k, kept));
        narrow(into + pairs + k, _mm512_fmadd_ps(one, by_other, straight), kept);
    }
}
