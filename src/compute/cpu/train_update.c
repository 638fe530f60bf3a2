/* What goes over flat arrays of parameters: sums, the check of gradients, and the optimisers. */
#include <math.h>

#include "base/thread.h"
#include "compute/cpu/train_cpu.h"

/* Numbers of one item of a phase. */
enum { PIECE = 1 << 14 };

struct flat {
    const struct cpu_train *train;
    float *values, *first, *second;
    const float *other;
    const struct update_terms *terms;
    size_t count;
    uint32_t *finite;
};

static void run(struct cpu_train *t, struct flat *f,
                void (*fn)(void *context, size_t begin, size_t end, int worker))
{
    f->train = t;
    thread_pool_run(t->pool, (f->count + PIECE - 1) / PIECE, fn, f);
}

static size_t end_of(const struct flat *f, size_t end)
{
    return end * PIECE < f->count ? end * PIECE : f->count;
}

static void add_pieces(void *context, size_t begin, size_t end, int worker)
{
    const struct flat *f = context;
    size_t from = begin * PIECE;
    (void)worker;
    f->train->kernels.add_f32(f->values + from, f->other + from, end_of(f, end) - from);
}

void cpu_train_add(struct train_device *device, float *to, const float *from, size_t count)
{
    struct flat f = { .values = to, .other = from, .count = count };
    run(cpu_train_of(device), &f, add_pieces);
}

static void check_pieces(void *context, size_t begin, size_t end, int worker)
{
    const struct flat *f = context;
    size_t from = begin * PIECE;
    (void)worker;
    if (!f->train->products.all_finite(f->other + from, end_of(f, end) - from))
        __atomic_store_n(f->finite, 0, __ATOMIC_RELAXED);
}

void cpu_check_finite(struct train_device *device, const float *values, size_t count,
                      uint32_t *finite)
{
    struct flat f = { .other = values, .count = count, .finite = finite };
    run(cpu_train_of(device), &f, check_pieces);
}

static void update_pieces(void *context, size_t begin, size_t end, int worker)
{
    const struct flat *f = context;
    const struct train_kernels *k = &f->train->products;
    size_t from = begin * PIECE, count = end_of(f, end) - from;
    (void)worker;
    if (f->first)
        k->update_adam(f->values + from, f->other + from, f->first + from, f->second + from,
                       f->terms, count);
    else
        k->update_sgd(f->values + from, f->other + from, f->terms, count);
}

/* In double, once: what every number is multiplied by. */
static struct update_terms terms_of(const struct train_update *u)
{
    double step = (double)u->step, rate = (double)u->rate, decay = (double)u->decay;
    double first = 1 - pow((double)u->beta1, step), second = 1 - pow((double)u->beta2, step);
    bool decoupled = u->optimizer == TRAIN_ADAMW;
    return (struct update_terms){
        .factor = u->gradient_factor,
        .keep = decoupled ? (float)(1 - rate * decay) : 1,
        .decay = decoupled ? 0 : u->decay,
        .beta1 = u->beta1, .take1 = (float)(1 - (double)u->beta1),
        .beta2 = u->beta2, .take2 = (float)(1 - (double)u->beta2),
        .root = (float)(1 / sqrt(second)), .epsilon = u->epsilon,
        .rate = u->optimizer == TRAIN_SGD ? u->rate : (float)(rate / first),
    };
}

void cpu_update(struct train_device *device, const struct train_update *update, float *values,
                const float *gradients, float *first, float *second, size_t count,
                const uint32_t *finite)
{
    if (finite && !*finite)
        return;
    struct update_terms terms = terms_of(update);
    bool moments = update->optimizer != TRAIN_SGD;
    struct flat f = { .values = values, .other = gradients, .first = moments ? first : NULL,
                      .second = second, .terms = &terms, .count = count };
    run(cpu_train_of(device), &f, update_pieces);
}
