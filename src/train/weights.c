/* Initial weights as PyTorch's defaults are distributed, and safetensors files with its names.
 * torch.nn.Transformer draws every matrix inside it by Xavier's rule (Glorot & Bengio 2010), which
 * takes the place of torch.nn.Linear's own; the output projection, outside, keeps that. */
#include "train/weights.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"
#include "model/safetensors_write.h"

/* ---- drawing ---------------------------------------------------------------------------- */

enum { BLOCK = 4 };             /* numbers of one block of Philox */

/* Block `block` of parameter number `parameter`. The last word of a counter is the step in dropout,
 * from 1; here it is 0. */
static void draw_block(uint64_t seed, size_t parameter, uint64_t block, uint32_t random[BLOCK])
{
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)parameter, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    philox_4x32(counter, key, random);
}

/* (0, 1), with 24 bits */
static float unit(uint32_t random)
{
    return ((float)(random >> 8) + 0.5f) * 0x1p-24f;
}

/* Mean 0, variance 1, two at a time (Box & Muller 1958). */
static void normal_pair(const uint32_t random[2], float pair[2])
{
    double radius = sqrt(-2 * log((double)unit(random[0])));
    double angle = 6.283185307179586 * (double)unit(random[1]);
    pair[0] = (float)(radius * cos(angle));
    pair[1] = (float)(radius * sin(angle));
}

static void draw_normal(uint64_t seed, size_t parameter, size_t count, float *values)
{
    for (size_t i = 0; i < count; i += BLOCK) {
        uint32_t random[BLOCK];
        float numbers[BLOCK];
        draw_block(seed, parameter, i / BLOCK, random);
        normal_pair(random, numbers);
        normal_pair(random + 2, numbers + 2);
        memcpy(values + i, numbers, (count - i < BLOCK ? count - i : BLOCK) * sizeof *values);
    }
}

/* (-bound, bound) */
static void draw_uniform(uint64_t seed, size_t parameter, double bound, size_t count, float *values)
{
    for (size_t i = 0; i < count; i += BLOCK) {
        uint32_t random[BLOCK];
        draw_block(seed, parameter, i / BLOCK, random);
        for (size_t k = 0; k < BLOCK && i + k < count; k++)
            values[i + k] = (float)(bound * (2 * (double)unit(random[k]) - 1));
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static void draw_vector(const struct parameter_table *table, size_t i, uint64_t seed, float *values)
{
    const struct parameter *p = &table->parameters[i];
    bool norm = strstr(p->name, "norm") != NULL;
    if (norm || ends_with(p->name, ".in_proj_bias") || ends_with(p->name, ".out_proj.bias")) {
        for (size_t k = 0; k < p->rows; k++)
            values[k] = norm && ends_with(p->name, ".weight") ? 1 : 0;
        return;
    }
    /* a bias comes behind its weight, whose inputs bound it */
    draw_uniform(seed, i, 1 / sqrt((double)table->parameters[i - 1].cols), p->rows, values);
}

void weights_draw(const struct parameter_table *table, uint64_t seed, float *values)
{
    memset(values, 0, table->values * sizeof *values);      /* what lies between the tensors */
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->parameters[i];
        float *to = values + p->offset;
        size_t count = p->rows * p->cols;
        if (p->cols == 0)
            draw_vector(table, i, seed, to);
        else if (ends_with(p->name, "embedding.weight"))
            draw_normal(seed, i, count, to);
        else if (!strncmp(p->name, "transformer.", strlen("transformer.")))
            draw_uniform(seed, i, sqrt(6.0 / (double)(p->rows + p->cols)), count, to);
        else
            draw_uniform(seed, i, 1 / sqrt((double)p->cols), count, to);
    }
}

/* ---- reading ---------------------------------------------------------------------------- */

static size_t parameter_numbers(const struct parameter *p)
{
    return p->rows * (p->cols > 0 ? p->cols : 1);
}

static enum akin_status read_tensor(const struct safetensors *file, const struct parameter *p,
                                    float *values, struct akin_error *error)
{
    const char *path = safetensors_path(file);
    const struct safetensors_tensor *t = safetensors_find(file, p->name);
    if (!t)
        return error_set(error, AKIN_FORMAT, "%s: tensor %s is missing", path, p->name);
    bool vector = p->cols == 0 && t->dims == 1 && t->shape[0] == p->rows;
    bool matrix = p->cols > 0 && t->dims == 2 && t->shape[0] == p->rows && t->shape[1] == p->cols;
    if (!vector && !matrix)
        return error_set(error, AKIN_FORMAT,
                         "%s: tensor %s has %zu dimensions, the first %zu and the last %zu; the "
                         "model needs %s[%zu,%zu]; are d-model, vocab-size and the others those "
                         "of the file?",
                         path, p->name, t->dims, t->dims ? t->shape[0] : 0,
                         t->dims ? t->shape[t->dims - 1] : 0, p->cols ? "" : "the vector ", p->rows,
                         p->cols ? p->cols : 1);
    if (t->type != SAFETENSORS_F32)
        return error_set(error, AKIN_UNSUPPORTED, "%s: tensor %s is %s; training reads F32", path,
                         p->name, safetensors_type_name(t->type));
    memcpy(values, t->data, t->bytes);
    for (size_t i = 0; i < t->elements; i++)
        if (!isfinite(values[i]))
            return error_set(error, AKIN_FORMAT, "%s: tensor %s: number %zu is not finite", path,
                             p->name, i);
    return AKIN_OK;
}

static enum akin_status read_all(const struct parameter_table *table,
                                 const struct safetensors *file, float *values,
                                 struct akin_error *error)
{
    for (size_t i = 0; i < table->count; i++)
        TRY(read_tensor(file, &table->parameters[i], values + table->parameters[i].offset, error));
    if (safetensors_count(file) == table->count)
        return AKIN_OK;
    for (size_t i = 0; i < safetensors_count(file); i++)
        if (parameter_find(table, safetensors_at(file, i)->name) < 0)
            return error_set(error, AKIN_FORMAT,
                             "%s: tensor %s is none of this model's; has the file more layers?",
                             safetensors_path(file), safetensors_at(file, i)->name);
    return AKIN_OK;
}

enum akin_status weights_read(const struct parameter_table *table, const char *path, float *values,
                              struct akin_error *error)
{
    struct safetensors *file;
    TRY(safetensors_open(path, &file, error));
    memset(values, 0, table->values * sizeof *values);
    enum akin_status status = read_all(table, file, values, error);
    safetensors_close(&file);
    return status;
}

/* ---- writing ---------------------------------------------------------------------------- */

enum { WRITE_AT_ONCE = 4096 };

static enum akin_status write_numbers(struct file_writer *writer, const float *values, size_t count,
                                      float factor, struct akin_error *error)
{
    float scaled[WRITE_AT_ONCE];
    for (size_t i = 0; i < count; i += WRITE_AT_ONCE) {
        size_t n = count - i < WRITE_AT_ONCE ? count - i : WRITE_AT_ONCE;
        for (size_t k = 0; k < n; k++)
            scaled[k] = values[i + k] * factor;
        TRY(file_writer_write(writer, scaled, n * sizeof *scaled, error));
    }
    return AKIN_OK;
}

enum akin_status weights_write(const struct parameter_table *table, const char *path,
                               const float *values, float factor, struct akin_error *error)
{
    struct safetensors_header header = {0};
    struct file_writer *writer;
    TRY(file_writer_open(path, &writer, error));
    for (size_t i = 0; i < table->count; i++) {
        const struct parameter *p = &table->parameters[i];
        safetensors_describe_tensor(&header, p->name, SAFETENSORS_F32, p->cols ? 2 : 1,
                                    (const size_t[]){p->rows, p->cols});
    }
    enum akin_status status = safetensors_put_header(&header, writer, error);
    safetensors_header_deinit(&header);
    for (size_t i = 0; status == AKIN_OK && i < table->count; i++) {
        const struct parameter *p = &table->parameters[i];
        status = write_numbers(writer, values + p->offset, parameter_numbers(p), factor, error);
    }
    if (status == AKIN_OK)
        return file_writer_commit(&writer, error);
    file_writer_abort(&writer);
    return status;
}
