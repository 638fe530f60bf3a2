/* The model and its use; sequence_train.c makes it. */
#include "recommend/sequence.h"

#include <math.h>

#include "compute/cpu/kernels.h"

static const double half_lives[SEQUENCE_HEADS] = { 1, 5, 30 };

float sequence_weight(size_t head, size_t age)
{
    return (float)exp2(-(double)age / half_lives[head]);
}

void sequence_settings_default(struct sequence_settings *settings)
{
    *settings = (struct sequence_settings){ .dim = 48, .epochs = 8, .batch = 500,
                                            .positions_max = 60, .rate = 0.008f, .dropout = 0.4f,
                                            .decay = 0.02f, .seed = 1 };
}

enum akin_status sequence_model_init(const struct kernels *kernels, size_t items, size_t dim,
                                     struct sequence_model *model, struct akin_error *error)
{
    ASSERT(dim >= 1 && dim <= SEQUENCE_DIM_MAX);
    size_t nr = kernels->gemm.nr, panels = (items + nr - 1) / nr, history, output;
    if (!size_mul(items, dim, &history) || !size_mul(panels * nr, dim + 1, &output))
        return error_memory(error);
    *model = (struct sequence_model){ .items = items, .dim = dim, .panel_count = panels, .nr = nr,
                                      .history = memory_alloc(history, sizeof *model->history),
                                      .output = memory_alloc(output, sizeof *model->output) };
    if (model->history && model->output)
        return AKIN_OK;
    sequence_model_deinit(model);
    return error_memory(error);
}

void sequence_model_deinit(struct sequence_model *model)
{
    memory_free(model->history);
    memory_free(model->output);
    *model = (struct sequence_model){ 0 };
}

void sequence_logits(const struct sequence_model *model, const struct kernels *kernels,
                     const uint32_t *history, size_t count, float *logits)
{
    float user[SEQUENCE_DIM_MAX + 1] = { 0 };
    size_t dim = model->dim, used = count < SEQUENCE_LIST_MAX ? count : SEQUENCE_LIST_MAX;
    for (size_t h = 0; h < SEQUENCE_HEADS; h++) {
        float mean[SEQUENCE_DIM_MAX] = { 0 }, total = 0;
        for (size_t age = 0; age < used; age++) {
            float weight = sequence_weight(h, age);
            kernels->add_scaled_f32(mean, model->history + history[count - 1 - age] * dim, weight,
                                    dim);
            total += weight;
        }
        for (size_t d = 0; d < dim; d++)
            user[d] += model->scale[h][d] * (mean[d] / total);
    }
    user[dim] = 1;      /* what the biases are multiplied by */
    for (size_t p = 0; p < model->panel_count; p++)
        kernels->gemm_f32(logits + p * model->nr, model->nr, user, dim + 1,
                          model->output + p * (dim + 1) * model->nr, dim + 1, 1, model->nr, NULL,
                          false);
}
