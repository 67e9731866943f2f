/* One block of the backbone, forward and backward, in 16 bits on a CPU with AVX512-BF16.

   What torch does here in some fifty passes over memory is done a few rows at a time, in the core's own cache. Kept for
   the backward pass are the block's input, rotated queries and keys with values, two numbers for each query and head,
   what attention mixed, the stream after it and the gate's input; all else is worked out again. The slow twin is
   lifechart.model.backbone.Block in 32 bits (tests/model/test_native.py). Sums, norms and softmax are in 32 bits.

   Shapes: R records, T places of each (a multiple of 16), D width, H heads, C = D / H, G hidden units of the gate. */

#include "attention.h"

#define ROWS 128   /* Rows that pass through the linear layers at once. */
#define GROUP 256  /* Places that pass through a whole block at once, if records are no longer. */

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
    int32_t *qkv, *attended, *gate, *down;
} Packed;

/* `from` is the number of the first row in the whole part: dropout is drawn by it. */
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
            for (long c = 2 * D; c < 3 * D; c += 16)
                narrow(into + c, _mm512_loadu_ps(floats + i * wide + c), first(3 * D - c));
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
    half *dropped = PIECE(half, ROWS * D + 16), *by_gated = PIECE(half, ROWS * G + 16);
    half *by_both = PIECE(half, ROWS * 2 * G + 16), *gated = PIECE(half, ROWS * G + 16), *normed = PIECE(half, ROWS * D + 16);
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

static Kept from_place(Kept kept, Shape s, long m) {
    const long D = s.width;
    return (Kept){kept.qkv + m * 3 * D, kept.mixed + m * D, kept.stats + m * s.heads * 2, kept.middle + m * D,
                  kept.both + m * 2 * s.hidden};
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
    const long floats = 6 * (ROUND16(3 * D) + ROUND16(2 * G));
    return (long)(intptr_t)end + attention_bytes(s) + num * 8 * D + ROWS * (6 * D + 8 * G + floats) + D + 64 * 128;
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
        const Kept here = from_place(kept, s, m);
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
        const Kept here = from_place(kept, s, m);
        backward_group(g, m, x + m * D, cos + m * C, sin + m * C, w, by, how, here, back + m * D, into + m * D, slopes,
                       scratch);
    }
}
