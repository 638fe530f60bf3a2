/* Sketches: opening a space, encoding rows, preparing queries. The look-ups themselves are the
 * kernels sketch_tables and sketch_scores. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "compute/cpu/sketch_space.h"

/* Max (1960), Quantizing for minimum distortion: normal distribution, 4 and 2 levels. */
#define TWO_BIT_CUT 0.9816f
static const float two_bit_levels[4] = { -1.5104f, -0.4528f, 0.4528f, 1.5104f };
#define ONE_BIT_LEVEL 0.7979f
/* Heads: 127 steps over four deviations to each side. */
#define HEAD_REACH 4.0f
/* A sketch that has next to nothing in common with its row does not get a huge factor. */
#define OVERLAP_MIN 0.1f

/* ---- opening ---------------------------------------------------------------------------- */

/* Field i goes to triple i % triples, so that those with large summands are apart: the three that
 * share a look-up share its 63 levels. */
static void place_fields(struct sketch *s)
{
    const struct sketch_header *h = s->header;
    size_t planes = h->planes, triples = planes / 3 * 4, fields = h->twos + (h->ones + 1) / 2;
    for (size_t i = 0; i < 4 * planes; i++)
        s->fields[i] = (struct sketch_field){ SKETCH_NONE, SKETCH_NONE, true };
    for (size_t i = 0; i < fields; i++) {
        size_t triple = i % triples, j = i / triples;
        size_t slot = triple < planes ? triple * 4 + j : (3 * (triple - planes) + j) * 4 + 3;
        struct sketch_field *field = &s->fields[slot];
        if (i < h->twos) {
            *field = (struct sketch_field){ h->heads + (uint32_t)i, SKETCH_NONE, false };
            continue;
        }
        uint32_t one = 2 * (uint32_t)(i - h->twos), at = h->heads + h->twos + one;
        *field = (struct sketch_field){ at, one + 1 < h->ones ? at + 1 : SKETCH_NONE, true };
    }
}

/* Floats of the panels of gemm_f32 for all parts. */
static size_t panel_floats(const struct sketch *s)
{
    size_t nr = s->cpu->kernels.gemm.nr, total = 0;
    for (size_t p = 0; p < s->header->parts; p++)
        total += round_up(s->part_first[p + 1] - s->part_first[p], nr) * s->part_dim;
    return total;
}

static size_t part_length(const struct sketch *s, size_t part)
{
    return min_size(s->part_dim, s->header->dim - part * s->part_dim);
}

static void pack_panels(struct sketch *s, const float *part_of, const float *directions)
{
    size_t nr = s->cpu->kernels.gemm.nr;
    float *panel = s->panels;
    memset(panel, 0, panel_floats(s) * sizeof *panel);
    for (size_t p = 0; p < s->header->parts; p++) {
        size_t length = part_length(s, p), count = s->part_first[p + 1] - s->part_first[p], c = 0;
        const float *row = directions;
        for (size_t i = 0; i < s->directions; i++) {
            size_t part = (size_t)part_of[i];
            for (size_t k = 0; part == p && k < length; k++)
                panel[c / nr * nr * length + k * nr + c % nr] = row[k];
            c += part == p;
            row += part_length(s, part);
        }
        panel += round_up(count, nr) * s->part_dim;
    }
}

/* The numbers of the header and of the parts; false where they contradict each other. */
static bool header_fits(const struct sketch_header *h, const void *blob, size_t bytes)
{
    size_t directions = (size_t)h->heads + h->twos + h->ones;
    if (bytes < sizeof *h || (uintptr_t)blob % 64 || h->magic != SKETCH_MAGIC || h->dim < 1 ||
        h->dim > SKETCH_DIM_MAX || h->score > SCORE_L2 ||
        (h->block_rows != 32 && h->block_rows != 64) || h->planes % 3 ||
        h->planes > SKETCH_PLANES_MAX || h->parts != sketch_parts(h->dim) || h->heads > h->dim ||
        h->twos > h->dim || h->ones > h->dim || directions > h->dim || directions < 1)
        return false;
    return (size_t)h->twos + (h->ones + 1) / 2 <= (size_t)h->planes * 4 &&
           bytes >= sizeof *h + (h->dim + 2 * directions) * sizeof(float);
}

static bool read_parts(struct sketch *s, const float *part_of, size_t bytes)
{
    const struct sketch_header *h = s->header;
    size_t floats = h->dim + 2 * s->directions;
    for (size_t i = 0; i < s->directions; i++) {
        if (!(part_of[i] >= 0 && part_of[i] < (float)h->parts))
            return false;
        size_t part = (size_t)part_of[i];
        if ((float)part != part_of[i] || !(s->deviation[i] >= 0))
            return false;
        s->part_first[part + 1]++;
        floats += part_length(s, part);
    }
    if (bytes != round_up(sizeof *h + floats * sizeof(float), 64))
        return false;
    for (size_t p = 0; p < h->parts; p++)
        s->part_first[p + 1] += s->part_first[p];
    size_t next[SKETCH_PARTS_MAX];
    memcpy(next, s->part_first, sizeof next);
    for (size_t i = 0; i < s->directions; i++)
        s->order[next[(size_t)part_of[i]]++] = (uint32_t)i;
    return true;
}

enum akin_status sketch_open(struct backend *backend, const void *blob, size_t bytes,
                             struct sketch **space, struct akin_error *error)
{
    const struct sketch_header *h = blob;
    if (!header_fits(h, blob, bytes))
        return error_set(error, AKIN_FORMAT, "sketches: the header contradicts itself");
    enum akin_status status = AKIN_OK;
    struct sketch *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    s->cpu = (struct cpu_backend *)backend;
    s->header = h;
    s->blob_bytes = bytes;
    s->directions = (size_t)h->heads + h->twos + h->ones;
    s->part_dim = sketch_part_dim(h->dim);
    s->form = (struct sketch_form){ h->block_rows, h->planes, sketch_head_groups(h->heads),
                                    h->score == SCORE_L2 };
    s->mean = (const float *)(h + 1);
    s->deviation = s->mean + h->dim;
    const float *part_of = s->deviation + s->directions;
    s->order = memory_alloc(s->directions, sizeof *s->order);
    s->fields = memory_alloc(4 * (size_t)h->planes + 1, sizeof *s->fields);
    if (!s->order || !s->fields)
        TRY_DONE(error_memory(error));
    if (!read_parts(s, part_of, bytes))
        TRY_DONE(error_set(error, AKIN_FORMAT, "sketches: the directions are damaged"));
    s->panels = memory_alloc_aligned(panel_floats(s), sizeof *s->panels);
    if (!s->panels)
        TRY_DONE(error_memory(error));
    pack_panels(s, part_of, part_of + s->directions);
    place_fields(s);
    *space = s;
    s = NULL;
done:
    sketch_destroy(&s);
    return status;
}

void sketch_destroy(struct sketch **space)
{
    if (!*space)
        return;
    memory_free((*space)->panels);
    memory_free((*space)->fields);
    memory_free((*space)->order);
    memory_free((*space)->owned);
    memory_free(*space);
    *space = NULL;
}

const void *sketch_blob(const struct sketch *space, size_t *bytes)
{
    *bytes = space->blob_bytes;
    return space->header;
}

size_t sketch_dim(const struct sketch *space)
{
    return space->header->dim;
}

size_t sketch_block_rows(const struct sketch *space)
{
    return space->form.rows;
}

size_t sketch_block_bytes(const struct sketch *space)
{
    return sketch_form_bytes(&space->form);
}

/* ---- the directions' components --------------------------------------------------------- */

/* out [rows][directions] of x [rows][dim], rows <= gemm.mr; parts [rows][directions] is scratch. */
static void turn(const struct sketch *s, float *out, float *parts, const float *x, size_t rows)
{
    const struct kernels *k = &s->cpu->kernels;
    size_t nr = k->gemm.nr, dim = s->header->dim;
    const float *panel = s->panels;
    for (size_t p = 0; p < s->header->parts; p++) {
        size_t count = s->part_first[p + 1] - s->part_first[p], length = part_length(s, p);
        for (size_t c = 0; c < count; c += nr)
            k->gemm_f32(parts + s->part_first[p] + c, s->directions, x + p * s->part_dim, dim,
                        panel + c * length, length, rows, min_size(nr, count - c), NULL, false);
        panel += round_up(count, nr) * s->part_dim;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < s->directions; i++)
            out[r * s->directions + s->order[i]] = parts[r * s->directions + i];
}

/* ---- encoding --------------------------------------------------------------------------- */

size_t sketch_scratch_bytes(const struct sketch *space)
{
    return GEMM_MR_MAX * (2 * space->directions + space->header->dim) * sizeof(float);
}

static unsigned sign_bit(const struct sketch *s, const float *y, uint32_t i, float *overlap)
{
    if (i == SKETCH_NONE)
        return 0;
    *overlap += fabsf(y[i]) * ONE_BIT_LEVEL * s->deviation[i];
    return y[i] > 0;
}

static unsigned field_code(const struct sketch *s, const float *y, const struct sketch_field *field,
                           float *overlap)
{
    if (field->signs)
        return sign_bit(s, y, field->first, overlap) |
               sign_bit(s, y, field->second, overlap) << 1;
    float value = y[field->first], cut = TWO_BIT_CUT * s->deviation[field->first];
    unsigned code = (unsigned)(value > -cut) + (value > 0) + (value > cut);
    *overlap += value * two_bit_levels[code] * s->deviation[field->first];
    return code;
}

static float head_step(const struct sketch *s, size_t i)
{
    return 2 * HEAD_REACH * s->deviation[i] / 127;
}

static uint8_t head_code(const struct sketch *s, const float *y, size_t i, float *overlap)
{
    float step = head_step(s, i), low = -HEAD_REACH * s->deviation[i];
    float level = step > FLT_MIN ? rintf((y[i] - low) / step) : 0;
    level = level < 0 ? 0 : level > 127 ? 127 : level;
    *overlap += y[i] * (low + step * level);
    return (uint8_t)level;
}

/* Row r of the block from its direction's components y, its length less the mean and its bias. */
static void encode_row(const struct sketch *s, uint8_t *block, size_t r, const float *y,
                       float length, float bias)
{
    size_t rows = s->form.rows, half = rows / 2, at = r < half ? 2 * r : 2 * (r - half) + 1;
    float overlap = 0;
    for (size_t p = 0; p < s->form.planes; p++) {
        unsigned byte = 0;
        for (size_t j = 0; j < 4; j++)
            byte |= field_code(s, y, &s->fields[4 * p + j], &overlap) << 2 * j;
        block[p * rows + at] = (uint8_t)byte;
    }
    uint8_t *heads = block + s->form.planes * rows;
    for (size_t i = 0; i < s->header->heads; i++)
        heads[(i / 4 * rows + r) * 4 + i % 4] = head_code(s, y, i, &overlap);
    float *factor = (float *)(heads + s->form.heads * rows * 4);
    factor[r] = length / (overlap > OVERLAP_MIN ? overlap : OVERLAP_MIN);
    if (s->form.biased)
        factor[rows + r] = bias;
}

/* Row less mean at length 1 to `out`; its length before, and minus its own square. */
static float centre(const struct sketch *s, float *out, const float *row, float *bias)
{
    double squares = 0, own = 0;
    for (size_t k = 0; k < s->header->dim; k++) {
        double z = (double)row[k] - (double)s->mean[k];
        squares += z * z;
        own += (double)row[k] * (double)row[k];
    }
    double inverse = squares > 0 ? 1 / sqrt(squares) : 0;
    for (size_t k = 0; k < s->header->dim; k++)
        out[k] = (float)(((double)row[k] - (double)s->mean[k]) * inverse);
    *bias = (float)-own;
    return (float)sqrt(squares);
}

void sketch_encode(const struct sketch *space, const float *const *rows, size_t count, void *block,
                   void *scratch)
{
    size_t dim = space->header->dim, step = space->cpu->kernels.gemm.mr;
    float *x = scratch, *y = x + GEMM_MR_MAX * dim, *parts = y + GEMM_MR_MAX * space->directions;
    memset(block, 0, sketch_block_bytes(space));
    for (size_t r = 0; r < count; r += step) {
        size_t live = min_size(step, count - r);
        float length[GEMM_MR_MAX], bias[GEMM_MR_MAX];
        for (size_t i = 0; i < live; i++)
            length[i] = centre(space, x + i * dim, rows[r + i], &bias[i]);
        turn(space, y, parts, x, live);
        for (size_t i = 0; i < live; i++)
            encode_row(space, block, r + i, y + i * space->directions, length[i], bias[i]);
    }
}

/* ---- queries ---------------------------------------------------------------------------- */

struct sketch_query {
    struct sketch_terms terms;
    int8_t *head;               /* [4 * heads] */
    uint8_t *tables, *entries;  /* entries [planes * 4][4] */
    float *values;              /* [planes * 4][4] */
    float *y, *parts;           /* [directions] */
};

static size_t query_layout(const struct sketch *s, struct sketch_query *query, unsigned char *base)
{
    size_t slots = 4 * s->form.planes, at = round_up(sizeof *query, 64);
#define PLACE(member, bytes)                                                         \
    if (base)                                                                        \
        query->member = (void *)(base + at);                                         \
    at = round_up(at + (bytes), 64)
    PLACE(head, 4 * s->form.heads);
    PLACE(tables, sketch_table_bytes(s->form.planes));
    PLACE(entries, 4 * slots);
    PLACE(values, 4 * slots * sizeof(float));
    PLACE(y, s->directions * sizeof(float));
    PLACE(parts, s->directions * sizeof(float));
#undef PLACE
    return at;
}

size_t sketch_query_bytes(const struct sketch *space)
{
    return query_layout(space, NULL, NULL);
}

static float sign_value(const struct sketch *s, const float *y, uint32_t i, bool positive)
{
    float value = i == SKETCH_NONE ? 0 : y[i] * ONE_BIT_LEVEL * s->deviation[i];
    return positive ? value : -value;
}

/* What each code of a field adds, less the least of the four, which is returned. */
static float field_values(const struct sketch *s, const float *y, const struct sketch_field *field,
                          float values[4])
{
    for (unsigned c = 0; c < 4; c++)
        values[c] = field->signs ? sign_value(s, y, field->first, c & 1) +
                                       sign_value(s, y, field->second, c & 2)
                                 : y[field->first] * two_bit_levels[c] * s->deviation[field->first];
    float least = values[0];
    for (unsigned c = 1; c < 4; c++)
        least = values[c] < least ? values[c] : least;
    for (unsigned c = 0; c < 4; c++)
        values[c] -= least;
    return least;
}

static float largest_of(const float values[4])
{
    float top = values[0] > values[1] ? values[0] : values[1];
    float other = values[2] > values[3] ? values[2] : values[3];
    return top > other ? top : other;
}

/* The largest sum of the three fields that share a look-up. */
static float largest_triple(const float *values, size_t planes)
{
    float largest = 0;
    for (size_t p = 0; p < planes; p += 3) {
        float top = 0;
        for (size_t i = p; i < p + 3; i++) {
            const float *at = values + 16 * i;
            float sum = largest_of(at) + largest_of(at + 4) + largest_of(at + 8);
            largest = sum > largest ? sum : largest;
            top += largest_of(at + 12);
        }
        largest = top > largest ? top : largest;
    }
    return largest;
}

static void prepare_fields(const struct sketch *s, struct sketch_query *query)
{
    size_t slots = 4 * s->form.planes;
    for (size_t i = 0; i < slots; i++)
        query->terms.offset += field_values(s, query->y, &s->fields[i], query->values + 4 * i);
    /* Three roundings upwards still stay within 63. */
    float step = largest_triple(query->values, s->form.planes) / 61;
    float inverse = step > FLT_MIN ? 1 / step : 0;
    for (size_t i = 0; i < 4 * slots; i++)
        query->entries[i] = (uint8_t)(int)(query->values[i] * inverse + 0.5f);
    query->terms.step = step;
    s->cpu->kernels.sketch_tables(query->tables, query->entries, s->form.planes);
}

static void prepare_heads(const struct sketch *s, struct sketch_query *query)
{
    float largest = 0;
    memset(query->head, 0, 4 * s->form.heads);
    for (size_t i = 0; i < s->header->heads; i++) {
        float weight = fabsf(query->y[i] * head_step(s, i));
        largest = weight > largest ? weight : largest;
        query->terms.offset -= query->y[i] * HEAD_REACH * s->deviation[i];
    }
    float step = largest / 127, inverse = step > FLT_MIN ? 1 / step : 0;
    for (size_t i = 0; i < s->header->heads; i++)
        query->head[i] = (int8_t)lrintf(query->y[i] * head_step(s, i) * inverse);
    query->terms.head_step = step;
}

struct sketch_query *sketch_prepare(const struct sketch *space, const float *query, void *memory)
{
    struct sketch_query *q = memory;
    query_layout(space, q, memory);
    turn(space, q->y, q->parts, query, 1);
    q->terms = (struct sketch_terms){ .tables = q->tables, .head = q->head };
    prepare_fields(space, q);
    prepare_heads(space, q);
    float mean = 0, own = 0;
    for (size_t k = 0; k < space->header->dim; k++) {
        mean += query[k] * space->mean[k];
        own += query[k] * query[k];
    }
    q->terms.shift = mean;
    if (space->form.biased) {
        q->terms.step *= 2;
        q->terms.head_step *= 2;
        q->terms.offset *= 2;
        q->terms.shift = 2 * mean - own;
    }
    return q;
}

void sketch_estimate(const struct sketch *space, const struct sketch_query *query,
                     const void *codes, size_t blocks, float *scores)
{
    space->cpu->kernels.sketch_scores(scores, codes, blocks, &space->form, &query->terms);
}
