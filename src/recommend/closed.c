/* Gram matrices of lists and the closed form over them, in primal and dual form. Each row has one
 * thread, which goes through the lists in their order, so that the sums are the same for any number
 * of threads. */
#include <string.h>

#include "base/thread.h"
#include "compute/cpu/kernels.h"
#include "recommend/solve.h"
#include "recommend/taste.h"

enum { ROW_BLOCK = 32 };        /* of rows that one pass over the lists fills */

struct gram {
    const struct closed_form *form;
    const float *kernel;
    size_t reach;
    float beyond, *g;
};

static void gram_row(const struct gram *gram, const uint32_t *list, size_t count, size_t a)
{
    float *row = gram->g + (size_t)list[a] * gram->form->lists->item_count;
    for (size_t b = 0; b < count; b++) {
        size_t distance = a > b ? a - b : b - a;
        row[list[b]] += distance < gram->reach ? gram->kernel[distance] : gram->beyond;
    }
}

static void gram_block(void *context, size_t block, int worker)
{
    const struct gram *gram = context;
    const struct item_lists *lists = gram->form->lists;
    size_t first = block * ROW_BLOCK, rows = lists->item_count - first;
    rows = rows < ROW_BLOCK ? rows : ROW_BLOCK;
    (void)worker;
    memset(gram->g + first * lists->item_count, 0, rows * lists->item_count * sizeof *gram->g);
    for (size_t u = 0; u < lists->count; u++) {
        size_t begin = lists->offsets[u], end = lists->offsets[u + 1];
        begin = end - begin > TASTE_HISTORY_MAX ? end - TASTE_HISTORY_MAX : begin;
        for (size_t at = begin; at < end; at++)
            if (lists->items[at] - first < rows)
                gram_row(gram, lists->items + begin, end - begin, at - begin);
    }
}

void proximity_gram(const struct closed_form *form, const float *kernel, size_t reach, float beyond,
                    float *g)
{
    struct gram gram = { form, kernel, reach, beyond, g };
    thread_pool_each(form->pool, (form->lists->item_count + ROW_BLOCK - 1) / ROW_BLOCK, gram_block,
                     &gram);
}

struct shares {
    const float *g;
    float *out;
    size_t n;
};

static void share_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct shares *s = context;
    (void)worker;
    for (size_t i = begin; i < end; i++) {
        const float *from = s->g + i * s->n;
        float *to = s->out + i * s->n;
        double sum = 1;
        for (size_t j = 0; j < s->n; j++)
            sum += j == i ? 0 : (double)from[j];
        float factor = (float)(1 / sum);
        for (size_t j = 0; j < s->n; j++)
            to[j] = from[j] * factor;
        to[i] = 0;
    }
}

void closed_form_share(const struct closed_form *form, const float *g, float *out)
{
    struct shares shares = { g, out, form->lists->item_count };
    thread_pool_run(form->pool, shares.n, share_rows, &shares);
}

struct divide {
    float *p;
    const float *minus;         /* [n] -1 / P_jj */
    size_t n;
};

static void divide_rows(void *context, size_t begin, size_t end, int worker)
{
    const struct divide *d = context;
    (void)worker;
    for (size_t i = begin; i < end; i++) {
        for (size_t j = 0; j < d->n; j++)
            d->p[i * d->n + j] *= d->minus[j];
        d->p[i * d->n + i] = 0;
    }
}

/* P to the weights. */
static enum akin_status divide_columns(const struct closed_form *form, float *p,
                                       struct akin_error *error)
{
    size_t n = form->lists->item_count;
    float *minus = memory_alloc(n, sizeof *minus);
    if (!minus)
        return error_memory(error);
    for (size_t j = 0; j < n; j++)
        minus[j] = -1 / p[j * n + j];
    struct divide divide = { p, minus, n };
    thread_pool_run(form->pool, n, divide_rows, &divide);
    memory_free(minus);
    return AKIN_OK;
}

enum akin_status closed_form_solve(const struct closed_form *form, float *g, float ridge,
                                   struct akin_error *error)
{
    size_t n = form->lists->item_count;
    for (size_t i = 0; i < n; i++)
        g[i * n + i] += ridge;
    TRY(symmetric_invert(form->kernels, form->pool, g, n, error));
    return divide_columns(form, g, error);
}

/* ---- dual -------------------------------------------------------------------------------- */

struct dual {
    const struct closed_form *form;
    float *k;                   /* [lists][lists] XX' + ridge I, then its inverse */
    float *y;                   /* [lists][items] its inverse times X */
    float *p;                   /* [items][items] */
    const size_t *offsets;      /* [items + 1] */
    const uint32_t *members;    /* the lists that hold an item, ascending */
    float ridge;
    bool **marks;               /* [workers][items] */
};

static void common_row(void *context, size_t u, int worker)
{
    const struct dual *d = context;
    const struct item_lists *lists = d->form->lists;
    bool *mark = d->marks[worker];
    for (size_t at = lists->offsets[u]; at < lists->offsets[u + 1]; at++)
        mark[lists->items[at]] = true;
    for (size_t v = 0; v <= u; v++) {
        size_t common = 0;
        for (size_t at = lists->offsets[v]; at < lists->offsets[v + 1]; at++)
            common += mark[lists->items[at]];
        d->k[u * lists->count + v] = (float)common + (u == v ? d->ridge : 0);
    }
    for (size_t at = lists->offsets[u]; at < lists->offsets[u + 1]; at++)
        mark[lists->items[at]] = false;
}

static void product_row(void *context, size_t u, int worker)
{
    const struct dual *d = context;
    const struct item_lists *lists = d->form->lists;
    float *row = d->y + u * lists->item_count;
    (void)worker;
    memset(row, 0, lists->item_count * sizeof *row);
    for (size_t v = 0; v < lists->count; v++)
        for (size_t at = lists->offsets[v]; at < lists->offsets[v + 1]; at++)
            row[lists->items[at]] += d->k[u * lists->count + v];
}

static void inverse_row(void *context, size_t i, int worker)
{
    const struct dual *d = context;
    size_t n = d->form->lists->item_count;
    float *row = d->p + i * n;
    (void)worker;
    memset(row, 0, n * sizeof *row);
    for (size_t at = d->offsets[i]; at < d->offsets[i + 1]; at++)
        d->form->kernels->add_scaled_f32(row, d->y + d->members[at] * n, -1, n);
    row[i] += 1;
    d->form->kernels->scale_f32(row, 1 / d->ridge, n);
}

static void list_members(const struct item_lists *lists, size_t *offsets, uint32_t *members)
{
    size_t n = lists->item_count;
    for (size_t at = 0; at < lists->offsets[lists->count]; at++)
        offsets[lists->items[at] + 2]++;
    for (size_t i = 0; i < n; i++)
        offsets[i + 2] += offsets[i + 1];
    for (size_t u = 0; u < lists->count; u++)
        for (size_t at = lists->offsets[u]; at < lists->offsets[u + 1]; at++)
            members[offsets[lists->items[at] + 1]++] = (uint32_t)u;
}

/* (X'X + rI)^-1 = (I - X' (XX' + rI)^-1 X) / r */
static enum akin_status solve_dual(struct dual *d, struct akin_error *error)
{
    const struct closed_form *form = d->form;
    size_t lists = form->lists->count;
    thread_pool_each(form->pool, lists, common_row, d);
    TRY(symmetric_invert(form->kernels, form->pool, d->k, lists, error));
    thread_pool_each(form->pool, lists, product_row, d);
    thread_pool_each(form->pool, form->lists->item_count, inverse_row, d);
    return divide_columns(form, d->p, error);
}

enum akin_status closed_form_dual(const struct closed_form *form, float *g, float ridge,
                                  struct akin_error *error)
{
    size_t lists = form->lists->count, n = form->lists->item_count, square, wide;
    int workers = thread_pool_size(form->pool);
    if (!size_mul(lists, lists, &square) || !size_mul(lists, n, &wide))
        return error_memory(error);
    size_t *offsets = memory_alloc(n + 2, sizeof *offsets);
    uint32_t *members = memory_alloc(form->lists->offsets[lists], sizeof *members);
    struct dual d = { form, memory_alloc(square, sizeof(float)), memory_alloc(wide, sizeof(float)),
                      g, offsets, members, ridge, memory_alloc((size_t)workers, sizeof *d.marks) };
    bool done = d.k && d.y && offsets && members && d.marks;
    for (int w = 0; done && w < workers; w++)
        done = (d.marks[w] = memory_alloc(n, sizeof *d.marks[w])) != NULL;
    if (done)
        list_members(form->lists, offsets, members);
    enum akin_status status = done ? solve_dual(&d, error) : error_memory(error);
    for (int w = 0; d.marks && w < workers; w++)
        memory_free(d.marks[w]);
    memory_free(d.marks);
    memory_free(d.k);
    memory_free(d.y);
    memory_free(offsets);
    memory_free(members);
    return status;
}
