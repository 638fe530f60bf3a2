/* Embedding of the CPU device of training. On the way back each row of a table is the affair of one
 * thread, which adds the rows of the gradient that belong to it in their order: so no bit depends
 * on the number of threads, and nothing is locked. */
#include <string.h>

#include "base/thread.h"
#include "compute/cpu/train_cpu.h"

struct embed_work {
    struct cpu_train *train;
    const int32_t *ids;
    const float *tokens, *positions, *x_gradient;
    float *x, *token_gradient, *position_gradient;
    size_t samples, length, dim, vocab;
    uint32_t *first;            /* [vocab + 1] where the rows of each token begin in `order` */
    uint32_t *order;            /* [samples * length] rows, by token and then in order */
};

static void embed_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct embed_work *w = context;
    (void)worker;
    for (size_t row = begin; row < end; row++) {
        float *x = w->x + row * w->dim;
        memcpy(x, w->tokens + (size_t)w->ids[row] * w->dim, w->dim * sizeof *x);
        w->train->kernels.add_f32(x, w->positions + row % w->length * w->dim, w->dim);
    }
}

void cpu_embed_forward(struct train_device *device, const int32_t *ids, const float *tokens,
                       const float *positions, size_t samples, size_t length, size_t dim,
                       float *x)
{
    struct embed_work work = { .train = cpu_train_of(device), .ids = ids, .tokens = tokens,
                               .positions = positions, .x = x, .length = length, .dim = dim };
    thread_pool_run(work.train->pool, samples * length, embed_rows, &work);
}

/* A counting sort: rows of equal tokens stay in order. */
static void order_rows(const struct embed_work *w)
{
    size_t rows = w->samples * w->length;
    memset(w->first, 0, (w->vocab + 1) * sizeof *w->first);
    for (size_t row = 0; row < rows; row++)
        w->first[w->ids[row] + 1]++;
    for (size_t token = 0; token < w->vocab; token++)
        w->first[token + 1] += w->first[token];
    for (size_t row = 0; row < rows; row++)     /* first becomes the end of each token ... */
        w->order[w->first[w->ids[row]]++] = (uint32_t)row;
    memmove(w->first + 1, w->first, w->vocab * sizeof *w->first);   /* ... and the next begin */
    w->first[0] = 0;
}

static void token_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct embed_work *w = context;
    (void)worker;
    for (size_t token = begin; token < end; token++)
        for (uint32_t i = w->first[token]; i < w->first[token + 1]; i++)
            w->train->kernels.add_f32(w->token_gradient + token * w->dim,
                                      w->x_gradient + w->order[i] * w->dim, w->dim);
}

static void position_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct embed_work *w = context;
    (void)worker;
    for (size_t position = begin; position < end; position++)
        for (size_t sample = 0; sample < w->samples; sample++)
            w->train->kernels.add_f32(w->position_gradient + position * w->dim,
                                      w->x_gradient + (sample * w->length + position) * w->dim,
                                      w->dim);
}

void cpu_embed_backward(struct train_device *device, const int32_t *ids, const float *x_gradient,
                        size_t samples, size_t length, size_t dim, size_t vocab,
                        float *token_gradient, float *position_gradient)
{
    struct cpu_train *train = cpu_train_of(device);
    struct embed_work work = { .train = train, .ids = ids, .x_gradient = x_gradient,
                               .token_gradient = token_gradient,
                               .position_gradient = position_gradient, .samples = samples,
                               .length = length, .dim = dim, .vocab = vocab };
    size_t rows = samples * length;
    if (!train_reserve(train, 0, (vocab + 1 + rows) * sizeof *work.order + 128))
        return;
    work.first = arena_alloc(&train->shared, vocab + 1, sizeof *work.first);
    work.order = arena_alloc(&train->shared, rows, sizeof *work.order);
    order_rows(&work);
    thread_pool_run(train->pool, vocab, token_rows, &work);
    thread_pool_run(train->pool, length, position_rows, &work);
}
