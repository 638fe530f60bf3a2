/* Operations whose every row is on its own: embedding, LayerNorm, pooling, normalisation. */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "compute/cpu/backend_cpu.h"

void widen_row(const struct kernels *k, const struct host_matrix *matrix, size_t row, float *out)
{
    size_t bytes = matrix->cols * element_bytes(matrix->type);
    const unsigned char *from = (const unsigned char *)matrix->data + row * bytes;
    switch (matrix->type) {
    case ELEMENT_F32:
        memcpy(out, from, bytes);
        break;
    case ELEMENT_F16:
        k->widen_f16(out, from, matrix->cols);
        break;
    case ELEMENT_BF16:
        k->widen_bf16(out, from, matrix->cols);
        break;
    case ELEMENT_I8:        /* never a matrix of weights */
        break;
    }
}

static void add_table_row(const struct kernels *k, float *x, const struct host_matrix *table,
                          size_t row, float *scratch)
{
    widen_row(k, table, row, scratch);
    k->add_f32(x, scratch, table->cols);
}

void cpu_embed_rows(struct lane *lane, struct tensor *out, const struct packed_batch *batch,
                    const struct embedding_tables *tables)
{
    const struct kernels *k = lane_kernels(lane);
    size_t hidden = out->cols;
    ASSERT(out->rows == batch->tokens && hidden <= DIMENSION_MAX);
    ASSERT(tables->word.cols == hidden && tables->position.cols == hidden);
    ASSERT(tables->type.rows == 0 || tables->type.cols == hidden);
    for (size_t t = 0; t < batch->tokens; t++) {
        ASSERT(batch->ids[t] >= 0 && (size_t)batch->ids[t] < tables->word.rows);
        ASSERT(batch->positions[t] >= 0 && (size_t)batch->positions[t] < tables->position.rows);
        float *x = out->data + t * hidden;
        widen_row(k, &tables->word, (size_t)batch->ids[t], x);
        if (tables->type.rows)      /* the order in which BERT adds them */
            add_table_row(k, x, &tables->type, 0, lane->row);
        add_table_row(k, x, &tables->position, (size_t)batch->positions[t], lane->row);
        k->layernorm_f32(x, x, NULL, tables->gamma, tables->beta, tables->epsilon, hidden);
    }
}

void cpu_residual_layernorm(struct lane *lane, struct tensor *x, const struct tensor *y,
                            const float *gamma, const float *beta, float epsilon)
{
    const struct kernels *k = lane_kernels(lane);
    ASSERT(x->rows == y->rows && x->cols == y->cols);
    for (size_t r = 0; r < x->rows; r++) {
        float *row = x->data + r * x->cols;
        k->layernorm_f32(row, row, y->data + r * x->cols, gamma, beta, epsilon, x->cols);
    }
}

static void pool_sequence(const struct kernels *k, float *out, const float *x, size_t tokens,
                          size_t hidden, enum pooling pooling)
{
    memcpy(out, x, hidden * sizeof *out);
    if (pooling == POOLING_CLS)
        return;
    for (size_t t = 1; t < tokens; t++)
        (pooling == POOLING_MAX ? k->max_f32 : k->add_f32)(out, x + t * hidden, hidden);
    if (pooling == POOLING_MEAN)
        k->scale_f32(out, 1 / (float)tokens, hidden);
}

void cpu_pool(struct lane *lane, struct tensor *out, const struct tensor *x,
              const struct packed_batch *batch, enum pooling pooling)
{
    size_t hidden = x->cols;
    ASSERT(out->rows == batch->sequences && out->cols == hidden && x->rows == batch->tokens);
    for (size_t s = 0; s < batch->sequences; s++) {
        size_t first = batch->offsets[s], tokens = batch->offsets[s + 1] - first;
        ASSERT(tokens > 0 && first + tokens <= batch->tokens);
        pool_sequence(lane_kernels(lane), out->data + s * hidden, x->data + first * hidden, tokens,
                      hidden, pooling);
    }
}

/* Where the sum of squares does not fit in a float32, or has lost its digits. */
static void normalize_extreme(float *x, size_t count)
{
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += (double)x[i] * (double)x[i];
    double inverse = squares > 0 ? 1 / sqrt(squares) : 1;
    for (size_t i = 0; i < count; i++)
        x[i] = (float)((double)x[i] * inverse);
}

void cpu_normalize(struct lane *lane, struct tensor *x)
{
    const struct kernels *k = lane_kernels(lane);
    for (size_t r = 0; r < x->rows; r++) {
        float *row = x->data + r * x->cols, squares;
        const float *rows[1] = { row };
        k->score_dot_f32(&squares, row, 1, rows, 1, x->cols);
        if (squares > 1e-24f && squares < 1e36f)
            k->scale_f32(row, 1 / sqrtf(squares), x->cols);
        else
            normalize_extreme(row, x->cols);
    }
}
