/* What an index keeps of the numbers of a row (enum akin_storage). A row is rounded once, when it
 * comes in; what is sealed, merged or read back later is the rounded row, bit for bit, so that
 * whether a row lies in the tail or in a segment changes no score.
 *
 * The tail, in memory and in ROWS frames, holds rounded rows as float32. Segments hold half
 * precision in their block of vectors, or, with bytes, no such block: the codes of kind flat are
 * the rows (flat.h). */
#include <math.h>
#include <string.h>

#include "compute/cpu/kernels.h"
#include "compute/screen.h"
#include "index/collection_parts.h"
#include "index/segment_rows.h"

static const char *const names[] = { "fp32", "fp16", "int8" };

enum { STORAGES = sizeof names / sizeof names[0] };

/* The least number that rounds to infinity. */
static const float half_limit = 65520;

const char *index_storage_name(enum akin_storage storage)
{
    return (unsigned)storage < STORAGES ? names[storage] : "unknown";
}

bool index_storage_parse(const char *name, enum akin_storage *storage)
{
    for (size_t i = 0; i < STORAGES; i++) {
        if (!strcmp(name, names[i])) {
            *storage = (enum akin_storage)i;
            return true;
        }
    }
    return false;
}

enum element_type collection_element(const struct collection *c)
{
    static const enum element_type elements[STORAGES] = { ELEMENT_F32, ELEMENT_F16, ELEMENT_I8 };
    return elements[c->creation.storage];
}

enum akin_status check_storage(enum akin_storage storage, uint32_t kind, struct akin_error *error)
{
    if ((unsigned)storage >= STORAGES)
        return error_set(error, AKIN_ARGUMENT, "storage %d: there is no such storage",
                         (int)storage);
    if (storage == AKIN_STORAGE_INT8 && kind && kind != SEGMENT_FLAT)
        return error_set(error, AKIN_UNSUPPORTED,
                         "storage int8 with kind %s: bytes alone are kept by kind flat; take fp16",
                         segment_kind_name(kind));
    return AKIN_OK;
}

enum akin_status check_range(const struct collection *c, const float *vectors, size_t count,
                             struct akin_error *error)
{
    if (c->creation.storage != AKIN_STORAGE_FP16 || c->metric == AKIN_METRIC_COSINE)
        return AKIN_OK;
    for (size_t i = 0; i < count * c->dim; i++)
        if (fabsf(vectors[i]) >= half_limit)
            return error_set(error, AKIN_ARGUMENT,
                             "row %zu: column %zu: %g is beyond fp16, whose largest number is "
                             "65504; scale the vectors, or build with fp32",
                             i / c->dim, i % c->dim, (double)vectors[i]);
    return AKIN_OK;
}

void round_row(const struct collection *c, float *row)
{
    const struct kernels *k = cpu_kernels(c->host.backend);
    if (c->creation.storage == AKIN_STORAGE_FP16) {
        uint16_t halves[INDEX_DIMENSION_MAX];
        k->narrow_f16(halves, row, c->dim);
        k->widen_f16(row, halves, c->dim);
    } else if (c->creation.storage == AKIN_STORAGE_INT8) {
        screen_round(row, c->dim);
    }
}

void part_row(const struct collection *c, const struct part *part, size_t row, float *out)
{
    struct segment_rows rows = { .vectors = part->vectors, .element = part->element,
                                 .count = part->rows, .dim = part->dim };
    if (part->element == ELEMENT_I8)
        segment_read(part->segment, row, out);
    else
        segment_row(c->host.backend, &rows, row, NULL, out);
}
