/* See quantized.h. */
#include "model/quantized.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "model/safetensors_write.h"

#define FORMAT "akin-narrowed-weights"
#define AGAIN "; make it again with \"akin model quantize\""

enum { VERSION = 1, NAME_BYTES = 224 };

struct quantized {
    struct safetensors *file;
    enum compute_precision precision;
    float **scratch;            /* aligned copies of scales and factors, freed on close */
    size_t scratch_count, scratch_capacity;
};

static const char *precision_text(enum compute_precision precision)
{
    return precision == COMPUTE_INT8 ? "int8" : "bf16";
}

const char *quantized_file_name(enum compute_precision precision)
{
    switch (precision) {
    case COMPUTE_INT8:
        return "akin-int8.safetensors";
    case COMPUTE_BF16:
        return "akin-bf16.safetensors";
    default:
        return NULL;
    }
}

/* ---- reading ---------------------------------------------------------------------------- */

static enum akin_status metadata_text(const struct safetensors *file, const char *key,
                                      const char **text, struct akin_error *error)
{
    *text = safetensors_metadata(file, key);
    if (*text)
        return AKIN_OK;
    return error_set(error, AKIN_FORMAT, "%s: __metadata__ has no %s" AGAIN,
                     safetensors_path(file), key);
}

static enum akin_status metadata_number(const struct safetensors *file, const char *key,
                                        uint64_t *value, struct akin_error *error)
{
    const char *text;
    TRY(metadata_text(file, key, &text, error));
    if (hex64_parse(text, value))
        return AKIN_OK;
    return error_set(error, AKIN_FORMAT, "%s: __metadata__: %s is \"%.40s\", not sixteen digits"
                     AGAIN, safetensors_path(file), key, text);
}

/* The parts that say what this file is, before anything else of it counts. */
static enum akin_status check_kind(const struct quantized *q, struct akin_error *error)
{
    const char *path = safetensors_path(q->file), *text;
    uint64_t version, method;
    TRY(metadata_text(q->file, "akin_format", &text, error));
    if (strcmp(text, FORMAT))
        return error_set(error, AKIN_FORMAT, "%s: akin_format is \"%.40s\", expected \"" FORMAT
                         "\"" AGAIN, path, text);
    TRY(metadata_number(q->file, "akin_version", &version, error));
    if (version != VERSION)
        return error_set(error, AKIN_FORMAT, "%s: version %llu; this program reads version %d"
                         AGAIN, path, (unsigned long long)version, VERSION);
    TRY(metadata_number(q->file, "method", &method, error));
    if (method != STORED_METHOD)
        return error_set(error, AKIN_FORMAT, "%s: narrowed by method %llu; this program has "
                         "method %d" AGAIN, path, (unsigned long long)method, STORED_METHOD);
    TRY(metadata_text(q->file, "precision", &text, error));
    if (strcmp(text, precision_text(q->precision)))
        return error_set(error, AKIN_FORMAT, "%s: holds %.40s, expected %s" AGAIN, path, text,
                         precision_text(q->precision));
    return AKIN_OK;
}

static enum akin_status check_source(const struct quantized *q, const char *weights_path,
                                     bool thorough, struct akin_error *error)
{
    struct weights_identity known;
    uint64_t modified;
    bool match;
    TRY(metadata_number(q->file, "weights_bytes", &known.bytes, error));
    TRY(metadata_number(q->file, "weights_modified_ns", &modified, error));
    TRY(metadata_number(q->file, "weights_sample", &known.sample, error));
    TRY(metadata_number(q->file, "weights_digest", &known.digest, error));
    known.modified_ns = (int64_t)modified;
    TRY(weights_match(&known, weights_path, thorough, &match, error));
    if (match)
        return AKIN_OK;
    return error_set(error, AKIN_FORMAT, "%s: made from other weights than %s" AGAIN,
                     safetensors_path(q->file), path_last(weights_path));
}

static uint64_t add_to_checksum(uint64_t hash, const char *name, const void *data, size_t bytes)
{
    hash = hash_bytes_seed(name, strlen(name), hash);
    return hash_bytes_seed(data, bytes, hash);
}

static enum akin_status check_sum(const struct quantized *q, struct akin_error *error)
{
    uint64_t want, found = 0;
    TRY(metadata_number(q->file, "checksum", &want, error));
    for (size_t i = 0; i < safetensors_count(q->file); i++) {
        const struct safetensors_tensor *t = safetensors_at(q->file, i);
        found = add_to_checksum(found, t->name, t->data, t->bytes);
    }
    if (found == want)
        return AKIN_OK;
    return error_set(error, AKIN_FORMAT, "%s: the checksum does not agree with the tensors" AGAIN,
                     safetensors_path(q->file));
}

enum akin_status quantized_open(const char *path, const char *weights_path,
                                enum compute_precision precision, bool thorough,
                                struct quantized **file, struct akin_error *error)
{
    if (!path_exists(path))
        return error_set(error, AKIN_NOT_FOUND, "%s: there is no such file", path);
    struct quantized *q = memory_alloc(1, sizeof *q);
    if (!q)
        return error_memory(error);
    q->precision = precision;
    enum akin_status status = safetensors_open(path, &q->file, error);
    if (status == AKIN_OK)
        status = check_kind(q, error);
    if (status == AKIN_OK)
        status = check_source(q, weights_path, thorough, error);
    if (status == AKIN_OK)
        status = check_sum(q, error);
    if (status == AKIN_OK)
        *file = q;
    else
        quantized_close(&q);
    return status;
}

void quantized_close(struct quantized **file)
{
    struct quantized *q = *file;
    if (!q)
        return;
    for (size_t i = 0; i < q->scratch_count; i++)
        memory_free(q->scratch[i]);
    memory_free(q->scratch);
    safetensors_close(&q->file);
    memory_free(q);
    *file = NULL;
}

void quantized_release(const struct quantized *file)
{
    safetensors_release(file->file);
}

uint64_t quantized_bytes(const struct quantized *file)
{
    return safetensors_file_bytes(file->file);
}

/* A tensor of the expected type with `rows` x `cols` elements, rows 0 for a vector. */
static enum akin_status find_tensor(const struct quantized *q, const char *name, const char *suffix,
                                    enum safetensors_type type, size_t rows, size_t cols,
                                    const struct safetensors_tensor **found,
                                    struct akin_error *error)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    const struct safetensors_tensor *t = safetensors_find(q->file, full);
    if (!t)
        return error_set(error, AKIN_FORMAT, "%s: tensor %s is missing" AGAIN,
                         safetensors_path(q->file), full);
    bool shape = rows ? t->dims == 2 && t->shape[0] == rows && t->shape[1] == cols
                      : t->dims == 1 && t->shape[0] == cols;
    if (t->type != type || !shape)
        return error_set(error, AKIN_FORMAT, "%s: tensor %s is not %s of %zu x %zu" AGAIN,
                         safetensors_path(q->file), full, safetensors_type_name(type),
                         rows ? rows : 1, cols);
    *found = t;
    return AKIN_OK;
}

/* Its floats, all finite and none below `least`, at an address that a float may have. */
static enum akin_status copy_floats(struct quantized *q, const struct safetensors_tensor *t,
                                    float least, const float **floats, struct akin_error *error)
{
    float *copy = memory_alloc_aligned(t->elements, sizeof *copy);
    if (!copy || !array_reserve((void **)&q->scratch, &q->scratch_capacity, q->scratch_count + 1,
                                sizeof *q->scratch)) {
        memory_free(copy);
        return error_memory(error);
    }
    q->scratch[q->scratch_count++] = copy;
    memcpy(copy, t->data, t->bytes);
    for (size_t i = 0; i < t->elements; i++)
        if (!(copy[i] >= least && copy[i] <= FLT_MAX))
            return error_set(error, AKIN_FORMAT, "%s: tensor %s: element %zu is %g" AGAIN,
                             safetensors_path(q->file), t->name, i, (double)copy[i]);
    *floats = copy;
    return AKIN_OK;
}

static enum akin_status find_piece(const struct quantized *q, const char *name, size_t in,
                                   size_t *piece, struct akin_error *error)
{
    const struct safetensors_tensor *t;
    uint32_t value;
    TRY(find_tensor(q, name, ".piece", SAFETENSORS_U32, 0, 1, &t, error));
    memcpy(&value, t->data, sizeof value);
    if (!value || value > in)
        return error_set(error, AKIN_FORMAT, "%s: tensor %s is %u, expected 1 to %zu" AGAIN,
                         safetensors_path(q->file), t->name, value, in);
    *piece = value;
    return AKIN_OK;
}

enum akin_status quantized_find(struct quantized *q, const char *name, size_t out, size_t in,
                                struct stored_linear *stored, struct akin_error *error)
{
    const struct safetensors_tensor *values, *scales, *factor;
    char optional[NAME_BYTES];
    *stored = (struct stored_linear){ .precision = q->precision, .out = out, .in = in,
                                      .piece = in };
    bool int8 = q->precision == COMPUTE_INT8;
    TRY(find_tensor(q, name, ".weight", int8 ? SAFETENSORS_I8 : SAFETENSORS_BF16, out, in, &values,
                    error));
    stored->values = values->data;
    if (!int8)
        return AKIN_OK;
    TRY(find_piece(q, name, in, &stored->piece, error));
    TRY(find_tensor(q, name, ".scales", SAFETENSORS_F32, out, stored_pieces(in, stored->piece),
                    &scales, error));
    TRY(copy_floats(q, scales, 0, &stored->scales, error));
    snprintf(optional, sizeof optional, "%s.input_factor", name);
    if (!safetensors_find(q->file, optional))
        return AKIN_OK;
    TRY(find_tensor(q, name, ".input_factor", SAFETENSORS_F32, 0, in, &factor, error));
    return copy_floats(q, factor, FLT_TRUE_MIN, &stored->input_factor, error);
}

/* ---- writing ---------------------------------------------------------------------------- */

struct output {
    struct file_writer *writer;     /* NULL: only the checksum is wanted */
    struct safetensors_header header;
    uint64_t checksum;
    struct akin_error *error;
};

static void describe_tensor(struct output *o, const char *name, const char *suffix,
                            enum safetensors_type type, size_t rows, size_t cols)
{
    char full[NAME_BYTES];
    size_t shape[] = { rows, cols };
    snprintf(full, sizeof full, "%s%s", name, suffix);
    safetensors_describe_tensor(&o->header, full, type, rows ? 2 : 1, rows ? shape : shape + 1);
}

/* In the order of put_part. */
static void describe_part(struct output *o, const char *name, const struct stored_linear *s)
{
    bool int8 = s->precision == COMPUTE_INT8;
    size_t pieces = stored_pieces(s->in, s->piece);
    describe_tensor(o, name, ".weight", int8 ? SAFETENSORS_I8 : SAFETENSORS_BF16, s->out, s->in);
    if (!int8)
        return;
    describe_tensor(o, name, ".piece", SAFETENSORS_U32, 0, 1);
    describe_tensor(o, name, ".scales", SAFETENSORS_F32, s->out, pieces);
    if (s->input_factor)
        describe_tensor(o, name, ".input_factor", SAFETENSORS_F32, 0, s->in);
}

static enum akin_status put_tensor(struct output *o, const char *name, const char *suffix,
                                   const void *data, size_t bytes)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", name, suffix);
    o->checksum = add_to_checksum(o->checksum, full, data, bytes);
    return o->writer ? file_writer_write(o->writer, data, bytes, o->error) : AKIN_OK;
}

static enum akin_status put_part(struct output *o, const char *name, const struct linear *linear)
{
    struct stored_linear s;
    if (!cpu_linear_describe(linear, &s))
        return error_set(o->error, AKIN_UNSUPPORTED, "%s: weights of this precision are not kept",
                         name);
    bool int8 = s.precision == COMPUTE_INT8;
    size_t count = s.out * s.in, pieces = stored_pieces(s.in, s.piece);
    uint32_t piece = (uint32_t)s.piece;
    void *values = memory_alloc_aligned(count, int8 ? 1 : 2);
    float *scales = memory_alloc_aligned(s.out * pieces, sizeof *scales);
    enum akin_status status = values && scales ? AKIN_OK : error_memory(o->error);
    if (status == AKIN_OK)
        cpu_linear_store(linear, values, scales);
    for (size_t i = 0; status == AKIN_OK && int8 && i < s.out * pieces; i++)
        if (!isfinite(scales[i]))
            status = error_set(o->error, AKIN_FORMAT,
                               "%s: output %zu has a weight that is not finite; \"akin model "
                               "check\" says where", name, i / pieces);
    if (status == AKIN_OK)
        status = put_tensor(o, name, ".weight", values, count * (int8 ? 1 : 2));
    if (status == AKIN_OK && int8)
        status = put_tensor(o, name, ".piece", &piece, sizeof piece);
    if (status == AKIN_OK && int8)
        status = put_tensor(o, name, ".scales", scales, s.out * pieces * sizeof *scales);
    if (status == AKIN_OK && int8 && s.input_factor)
        status = put_tensor(o, name, ".input_factor", s.input_factor, s.in * sizeof(float));
    memory_free(scales);
    memory_free(values);
    return status;
}

/* Returns where its digits stand. */
static size_t describe_number(struct output *o, const char *key, uint64_t value)
{
    char hex[17];
    hex64_text(value, hex);
    return safetensors_describe_text(&o->header, key, hex);
}

/* *checksum_at is where the digits of the checksum stand: it is known at the end. */
static enum akin_status put_header(struct output *o, const struct weights_identity *weights,
                                   enum compute_precision precision,
                                   const struct quantized_part *parts, size_t count,
                                   size_t *checksum_at)
{
    safetensors_describe_text(&o->header, "akin_format", FORMAT);
    describe_number(o, "akin_version", VERSION);
    describe_number(o, "method", STORED_METHOD);
    safetensors_describe_text(&o->header, "precision", precision_text(precision));
    describe_number(o, "weights_bytes", weights->bytes);
    describe_number(o, "weights_modified_ns", (uint64_t)weights->modified_ns);
    describe_number(o, "weights_sample", weights->sample);
    describe_number(o, "weights_digest", weights->digest);
    *checksum_at = describe_number(o, "checksum", 0);
    for (size_t i = 0; i < count; i++) {
        struct stored_linear s;
        if (cpu_linear_describe(parts[i].linear, &s))
            describe_part(o, parts[i].name, &s);
    }
    return safetensors_put_header(&o->header, o->writer, o->error);
}

enum akin_status quantized_write(const char *path, const struct weights_identity *weights,
                                 enum compute_precision precision,
                                 const struct quantized_part *parts, size_t count,
                                 uint64_t *checksum, struct akin_error *error)
{
    struct output o = { .error = error };
    char hex[17];
    size_t checksum_at = 0;
    if (path)
        TRY(file_writer_open(path, &o.writer, error));
    enum akin_status status = put_header(&o, weights, precision, parts, count, &checksum_at);
    for (size_t i = 0; status == AKIN_OK && i < count; i++)
        status = put_part(&o, parts[i].name, parts[i].linear);
    hex64_text(o.checksum, hex);
    if (status == AKIN_OK && path)
        status = file_writer_patch(o.writer, checksum_at, hex, 16, error);
    safetensors_header_deinit(&o.header);
    if (status == AKIN_OK && path)
        status = file_writer_commit(&o.writer, error);
    else
        file_writer_abort(&o.writer);
    if (status == AKIN_OK)
        *checksum = o.checksum;
    return status;
}
