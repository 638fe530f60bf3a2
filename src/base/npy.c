/* numpy's .npy: magic, version, header length, a Python literal, data. The literal is read by a
 * scanner for exactly what numpy writes, not by a Python parser. */
#include "base/npy.h"

#include <stdio.h>
#include <string.h>

static const char magic[] = "\x93NUMPY";

static size_t item_bytes(enum npy_type type)
{
    switch (type) {
    case NPY_FLOAT32:
    case NPY_INT32:
        return 4;
    case NPY_FLOAT64:
    case NPY_INT64:
        return 8;
    case NPY_UINT8:
        return 1;
    case NPY_OTHER:
        break;
    }
    return 0;
}

static enum npy_type type_of(const char *descr)
{
    static const struct {
        const char *descr;
        enum npy_type type;
    } known[] = {
        { "'<f4'", NPY_FLOAT32 }, { "'<f8'", NPY_FLOAT64 }, { "'<i4'", NPY_INT32 },
        { "'<i8'", NPY_INT64 },   { "'|u1'", NPY_UINT8 },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(descr, known[i].descr))
            return known[i].type;
    return NPY_OTHER;
}

/* The text behind 'key': in the header, or NULL. */
static const char *value_of(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (!at)
        return NULL;
    at += strlen(key);
    while (*at == ' ' || *at == ':')
        at++;
    return at;
}

/* A quoted name, or a bracketed list of fields with what is nested in it. */
static bool read_descr(const char *at, char *descr, size_t bytes)
{
    const char *end = at;
    if (*at == '\'') {
        end = strchr(at + 1, '\'');
    } else if (*at == '[') {
        int depth = 0;
        for (; *end; end++) {
            depth += (*end == '[') - (*end == ']');
            if (depth == 0)
                break;
        }
    } else {
        return false;
    }
    if (!end || !*end || (size_t)(end - at) + 2 > bytes)
        return false;
    memcpy(descr, at, (size_t)(end - at) + 1);
    descr[end - at + 1] = 0;
    return true;
}

static bool read_shape(const char *at, struct npy *npy)
{
    if (*at++ != '(')
        return false;
    for (npy->dims = 0;;) {
        while (*at == ' ' || *at == ',')
            at++;
        if (*at == ')')
            return npy->dims >= 1;
        if (npy->dims == 4 || *at < '0' || *at > '9')
            return false;
        size_t value = 0;
        for (; *at >= '0' && *at <= '9'; at++)
            if (!size_mul(value, 10, &value) || !size_add(value, (size_t)(*at - '0'), &value))
                return false;
        npy->shape[npy->dims++] = value;
    }
}

/* Bytes of one item of a structured type: numbers behind '<u', '<i', '<f', '|u'. */
static size_t structured_bytes(const char *descr)
{
    size_t total = 0;
    for (const char *at = descr; (at = strpbrk(at, "<|")); at++) {
        unsigned width;
        if (sscanf(at + 1, "%*[uif]%u", &width) != 1 || width > 8)
            return 0;
        total += width;
    }
    return total;
}

static enum akin_status parse(const char *path, struct npy *npy, struct akin_error *error)
{
    const unsigned char *d = npy->map.data;
    size_t bytes = npy->map.bytes, prefix, length;
    if (bytes < 10 || memcmp(d, magic, 6))
        return error_set(error, AKIN_FORMAT, "%s: not a .npy file", path);
    if (d[6] == 1) {
        prefix = 10;
        length = d[8] | (size_t)d[9] << 8;
    } else if ((d[6] == 2 || d[6] == 3) && bytes >= 12) {
        prefix = 12;
        length = d[8] | (size_t)d[9] << 8 | (size_t)d[10] << 16 | (size_t)d[11] << 24;
    } else {
        return error_set(error, AKIN_UNSUPPORTED, "%s: .npy version %d is not known", path, d[6]);
    }
    char header[4096];
    if (length >= sizeof header || length > bytes - prefix)
        return error_set(error, AKIN_FORMAT, "%s: the header claims %zu bytes", path, length);
    memcpy(header, d + prefix, length);
    header[length] = 0;
    const char *descr = value_of(header, "'descr'"), *order = value_of(header, "'fortran_order'"),
               *shape = value_of(header, "'shape'");
    if (!descr || !order || !shape || !read_descr(descr, npy->descr, sizeof npy->descr))
        return error_set(error, AKIN_FORMAT, "%s: the header lacks descr, fortran_order or shape",
                         path);
    if (!strncmp(order, "True", 4))
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: Fortran order; save it with numpy.ascontiguousarray", path);
    if (strncmp(order, "False", 5) || !read_shape(shape, npy))
        return error_set(error, AKIN_FORMAT, "%s: shape: expected 1 to 4 sizes", path);
    npy->type = type_of(npy->descr);
    size_t item = npy->type == NPY_OTHER ? structured_bytes(npy->descr) : item_bytes(npy->type);
    if (item == 0)
        return error_set(error, AKIN_UNSUPPORTED, "%s: type %s is not supported", path, npy->descr);
    npy->data_bytes = item;
    for (size_t i = 0; i < npy->dims; i++)
        if (!size_mul(npy->data_bytes, npy->shape[i], &npy->data_bytes))
            return error_set(error, AKIN_FORMAT, "%s: shape: the sizes overflow", path);
    if (npy->data_bytes > bytes - prefix - length)
        return error_set(error, AKIN_FORMAT,
                         "%s: holds %zu bytes of data where its shape needs %zu", path,
                         bytes - prefix - length, npy->data_bytes);
    npy->data = d + prefix + length;
    if ((prefix + length) % 16)
        return error_set(error, AKIN_UNSUPPORTED, "%s: the data are not aligned to 16 bytes", path);
    return AKIN_OK;
}

enum akin_status npy_open(const char *path, struct npy *npy, struct akin_error *error)
{
    *npy = (struct npy){ 0 };
    TRY(file_map_open(path, &npy->map, error));
    enum akin_status status = parse(path, npy, error);
    if (status != AKIN_OK)
        npy_close(npy);
    return status;
}

enum akin_status npy_open_matrix(const char *path, struct npy *npy, struct akin_error *error)
{
    TRY(npy_open(path, npy, error));
    enum akin_status status = AKIN_OK;
    if (npy->type != NPY_FLOAT32)
        status = error_set(error, AKIN_FORMAT, "%s: expected type '<f4' (float32), found %s", path,
                           npy->descr);
    else if (npy->dims != 2)
        status = error_set(error, AKIN_FORMAT, "%s: expected a matrix, found %zu dimensions", path,
                           npy->dims);
    if (status != AKIN_OK)
        npy_close(npy);
    return status;
}

void npy_close(struct npy *npy)
{
    if (npy->map.data)
        file_map_close(&npy->map);
    *npy = (struct npy){ 0 };
}

enum akin_status npy_write_header(struct file_writer *writer, const char *descr, size_t dims,
                                  const size_t *shape, struct akin_error *error)
{
    char header[1024];
    int used =
        snprintf(header, sizeof header, "{'descr': %s, 'fortran_order': False, 'shape': (", descr);
    for (size_t i = 0; i < dims && used < (int)sizeof header; i++)
        used += snprintf(header + used, sizeof header - (size_t)used, "%zu,%s", shape[i],
                         i + 1 < dims ? " " : "");
    if (used < (int)sizeof header)
        used += snprintf(header + used, sizeof header - (size_t)used, "), }");
    ASSERT(used > 0 && used + 64 < (int)sizeof header);
    size_t length = (size_t)used + 1, padding = (64 - (10 + length) % 64) % 64;
    memset(header + used, ' ', padding);
    header[(size_t)used + padding] = '\n';
    length += padding;
    unsigned char prefix[10] = {0x93,
                                'N',
                                'U',
                                'M',
                                'P',
                                'Y',
                                1,
                                0,
                                (unsigned char)(length & 0xff),
                                (unsigned char)(length >> 8)};
    TRY(file_writer_write(writer, prefix, sizeof prefix, error));
    return file_writer_write(writer, header, length, error);
}

enum akin_status npy_write(const char *path, const char *descr, size_t dims, const size_t *shape,
                           const void *data, size_t bytes, struct akin_error *error)
{
    struct file_writer *writer;
    TRY(file_writer_open(path, &writer, error));
    enum akin_status status = npy_write_header(writer, descr, dims, shape, error);
    if (status == AKIN_OK)
        status = file_writer_write(writer, data, bytes, error);
    if (status != AKIN_OK) {
        file_writer_abort(&writer);
        return status;
    }
    return file_writer_commit(&writer, error);
}
