/* See vecs.h. The formats have no magic number and no count: what the file says is taken only as
 * far as the size of the file bears it out. */
#include "base/vecs.h"

#include <string.h>
#include <strings.h>

#include "base/limits.h"

enum { PREFIX_BYTES = 4 };

static const struct {
    const char *ending;
    size_t item_bytes;
} types[] = {
    [VECS_FLOAT32] = {".fvecs", 4},
    [VECS_UINT8] = {".bvecs", 1},
    [VECS_INT32] = {".ivecs", 4},
};

bool vecs_type_of(const char *path, enum vecs_type *type)
{
    const char *dot = strrchr(path_last(path), '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++) {
        if (strcasecmp(dot, types[i].ending))
            continue;
        *type = (enum vecs_type)i;
        return true;
    }
    return false;
}

static uint32_t little32(const unsigned char *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static bool is_dimension(uint32_t value)
{
    return value >= 1 && value <= DIMENSION_MAX;
}

static enum akin_status measure(struct vecs *v, struct akin_error *error)
{
    const char *path = v->path, *ending = types[v->type].ending;
    if (v->map.bytes < PREFIX_BYTES)
        return error_set(error, AKIN_FORMAT, "%s: holds %zu bytes, too few for a %s file", path,
                         v->map.bytes, ending);
    uint32_t first = little32(v->map.data);
    if (!is_dimension(first) && is_dimension(__builtin_bswap32(first)))
        return error_set(error, AKIN_FORMAT,
                         "%s: row 0: the dimension is big-endian; %s files are little-endian, "
                         "swap the bytes of all numbers",
                         path, ending);
    if (!is_dimension(first))
        return error_set(error, AKIN_FORMAT,
                         "%s: row 0: claims %ld dimensions, expected 1 to %d; is it a %s file?",
                         path, (long)(int32_t)first, DIMENSION_MAX, ending);
    v->dimension = first;
    v->row_bytes = PREFIX_BYTES + v->dimension * types[v->type].item_bytes;
    v->rows = v->map.bytes / v->row_bytes;
    size_t rest = v->map.bytes % v->row_bytes;
    if (rest)
        return error_set(error, AKIN_FORMAT,
                         "%s: %zu rows of %zu dimensions, then %zu bytes of a row of %zu: it was "
                         "cut short, or is not a %s file",
                         path, v->rows, v->dimension, rest, v->row_bytes, ending);
    return AKIN_OK;
}

enum akin_status vecs_open(const char *path, enum vecs_type type, struct vecs *vecs,
                           struct akin_error *error)
{
    struct vecs v = {.path = path, .type = type};
    TRY(file_map_open(path, &v.map, error));
    enum akin_status status = measure(&v, error);
    if (status == AKIN_OK)
        *vecs = v;
    else
        file_map_close(&v.map);
    return status;
}

void vecs_close(struct vecs *vecs)
{
    if (vecs->map.data)
        file_map_close(&vecs->map);
    *vecs = (struct vecs){0};
}

/* Sets *items to what follows the dimension of a row. */
static enum akin_status row_items(const struct vecs *v, size_t row, const unsigned char **items,
                                  struct akin_error *error)
{
    const unsigned char *at = v->map.data + row * v->row_bytes;
    uint32_t dimension = little32(at);
    if (dimension != v->dimension)
        return error_set(error, AKIN_FORMAT,
                         "%s: row %zu: has %ld dimensions where row 0 has %zu; all rows of an "
                         "index are alike",
                         v->path, row, (long)(int32_t)dimension, v->dimension);
    *items = at + PREFIX_BYTES;
    return AKIN_OK;
}

enum akin_status vecs_read(const struct vecs *v, size_t row, size_t count, float *out,
                           struct akin_error *error)
{
    ASSERT(row <= v->rows && count <= v->rows - row);
    for (size_t end = row + count; row < end; row++, out += v->dimension) {
        const unsigned char *items;
        TRY(row_items(v, row, &items, error));
        if (v->type == VECS_FLOAT32)
            memcpy(out, items, v->dimension * sizeof *out);
        else if (v->type == VECS_UINT8)
            for (size_t i = 0; i < v->dimension; i++)
                out[i] = (float)items[i];
        else
            for (size_t i = 0; i < v->dimension; i++)
                out[i] = (float)(int32_t)little32(items + 4 * i);
    }
    return AKIN_OK;
}

enum akin_status vecs_read_ids(const struct vecs *v, size_t row, size_t count, int64_t *out,
                               struct akin_error *error)
{
    ASSERT(row <= v->rows && count <= v->rows - row);
    if (v->type == VECS_FLOAT32)
        return error_set(error, AKIN_FORMAT, "%s: holds float32 vectors, expected ids (.ivecs)",
                         v->path);
    for (size_t end = row + count; row < end; row++, out += v->dimension) {
        const unsigned char *items;
        TRY(row_items(v, row, &items, error));
        for (size_t i = 0; i < v->dimension; i++)
            out[i] = v->type == VECS_UINT8 ? items[i] : (int32_t)little32(items + 4 * i);
    }
    return AKIN_OK;
}
