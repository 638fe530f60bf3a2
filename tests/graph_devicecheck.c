/* Two hops over people and items on a device against the formula in double: cosine at least
 * 0.99999, for nodes with no neighbour, one, and very many; the same bits alone, in any list and
 * among all; lists that cannot be.
 *
 *   graph_devicecheck [cuda [--bench]]     --bench: also 62,423 items and 100,000 people of a card
 *
 * Exit status: 0 fine, 1 failed, 2 wrong use, 77 there is no card. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/rng.h"
#include "device_check.h"

#ifdef AKIN_CUDA_EMULATED
enum { WHOLE_CHECKS = 64 };     /* the greatest dimension of all checks */
#else
enum { WHOLE_CHECKS = GRAPH_DEVICE_DIM_MAX };
#endif

static struct rng rng;
static const struct graph_device_ops *ops;

static void expect(bool ok, const char *what, size_t dim, size_t items, size_t at)
{
    checks++;
    if (ok)
        return;
    if (failures++ < 20)
        printf("FAILED %s: dim %zu, %zu items, %zu\n", what, dim, items, at);
}

/* ---- graphs ----------------------------------------------------------------------------- */

struct made_graph {
    struct device_graph graph;
    float *numbers, *towers;
    const float **texts;
    uint32_t *lists[4];         /* offsets and members of people, then of items */
};

static size_t tower_values(size_t dim)
{
    return 2 * dim * dim + 4 * dim;
}

/* Node 0 has no neighbour, node 1 has `most`, the others up to `usual`. */
static struct device_lists make_lists(size_t count, size_t members, size_t most, size_t usual,
                                      uint32_t **offsets, uint32_t **list)
{
    uint32_t all = 0;
    *offsets = must_have(memory_alloc(count + 1, sizeof **offsets));
    *list = must_have(memory_alloc(most + count * usual + 1, sizeof **list));
    for (size_t i = 0; i < count; i++) {
        size_t degree = i == 0 || !members ? 0 : i == 1 ? most : 1 + rng_below(&rng, usual);
        for (size_t e = 0; e < degree; e++)
            (*list)[all++] = (uint32_t)rng_below(&rng, members);
        (*offsets)[i + 1] = all;
    }
    return (struct device_lists){ count, *offsets, *list };
}

static void make_towers(struct made_graph *m, size_t dim)
{
    m->towers = must_have(memory_alloc(DEVICE_TOWERS * tower_values(dim), sizeof *m->towers));
    for (size_t t = 0; t < DEVICE_TOWERS; t++) {
        float *values = m->towers + t * tower_values(dim);
        m->graph.towers[t] = values;
        for (size_t i = 0; i < tower_values(dim); i++) {
            bool bias = i >= dim * dim && i < dim * dim + dim, tail = i >= 2 * dim * dim + dim;
            values[i] = rng_normal(&rng) * (bias || tail ? 0.1f : 1 / sqrtf((float)dim));
        }
        for (size_t d = 0; d < dim; d++)        /* of gains */
            values[2 * dim * dim + 2 * dim + d] += 1;
    }
}

static struct made_graph make_graph(size_t dim, size_t items, size_t people, size_t most,
                                    size_t chosen, size_t fans)
{
    struct made_graph m = { .graph = { .dim = dim } };
    m.numbers = must_have(memory_alloc(items * dim, sizeof *m.numbers));
    m.texts = must_have(memory_alloc(items, sizeof *m.texts));
    for (size_t i = 0; i < items; i++) {
        float *text = m.numbers + i * dim, squares = 0;
        for (size_t d = 0; d < dim; d++) {
            text[d] = rng_normal(&rng);
            squares += text[d] * text[d];
        }
        for (size_t d = 0; d < dim; d++)
            text[d] *= i % 17 == 3 ? 0 : 1 / sqrtf(squares);
        m.texts[i] = text;
    }
    m.graph.texts = m.texts;
    m.graph.people = make_lists(people, items, most, chosen, &m.lists[0], &m.lists[1]);
    m.graph.items = make_lists(items, people, most, fans, &m.lists[2], &m.lists[3]);
    make_towers(&m, dim);
    return m;
}

static void free_graph(struct made_graph *m)
{
    memory_free(m->numbers);
    memory_free(m->towers);
    memory_free(m->texts);
    for (size_t i = 0; i < 4; i++)
        memory_free(m->lists[i]);
}

/* ---- the formula ------------------------------------------------------------------------ */

static void multiply_add(const float *weight, const float *bias, const double *x, double *out,
                         size_t dim)
{
    for (size_t r = 0; r < dim; r++) {
        out[r] = (double)bias[r];
        for (size_t d = 0; d < dim; d++)
            out[r] += (double)weight[r * dim + d] * x[d];
    }
}

static void pass_tower(const float *values, double *x, size_t dim)
{
    double wide[GRAPH_DEVICE_DIM_MAX], sum[GRAPH_DEVICE_DIM_MAX], mean = 0, squares = 0;
    const float *down = values + dim * dim + dim, *gain = down + dim * dim + dim;
    multiply_add(values, values + dim * dim, x, wide, dim);
    for (size_t d = 0; d < dim; d++)
        wide[d] = fmax(wide[d], 0);
    multiply_add(down, down + dim * dim, wide, sum, dim);
    for (size_t d = 0; d < dim; d++) {
        sum[d] += x[d];
        mean += sum[d] / (double)dim;
    }
    for (size_t d = 0; d < dim; d++)
        squares += (sum[d] - mean) * (sum[d] - mean) / (double)dim;
    for (size_t d = 0; d < dim; d++)
        x[d] = (sum[d] - mean) / sqrt(squares + 1e-5) * (double)gain[d] + (double)gain[dim + d];
}

static double *right_vectors(const struct device_graph *g)
{
    size_t dim = g->dim;
    double *near = must_have(memory_alloc(g->people.count * dim + 1, sizeof *near));
    double *out = must_have(memory_alloc(g->items.count * dim, sizeof *out));
    for (size_t p = 0; p < g->people.count; p++) {
        uint32_t first = g->people.offsets[p], end = g->people.offsets[p + 1];
        for (uint32_t e = first; e < end; e++)
            for (size_t d = 0; d < dim; d++)
                near[p * dim + d] += (double)g->texts[g->people.members[e]][d] / (end - first);
        pass_tower(g->towers[DEVICE_TOWER_NEAR], near + p * dim, dim);
    }
    for (size_t i = 0; i < g->items.count; i++) {
        uint32_t first = g->items.offsets[i], end = g->items.offsets[i + 1];
        for (size_t d = 0; d < dim; d++)
            out[i * dim + d] = (double)g->texts[i][d];
        for (uint32_t e = first; e < end; e++)
            for (size_t d = 0; d < dim; d++)
                out[i * dim + d] += near[g->items.members[e] * dim + d] / (end - first);
        pass_tower(g->towers[DEVICE_TOWER_ITEM], out + i * dim, dim);
    }
    memory_free(near);
    return out;
}

/* ---- checks ----------------------------------------------------------------------------- */

static void check_lists_of(struct graph_device *device, const float *all, size_t dim, size_t items)
{
    uint32_t list[70];
    float *some = must_have(memory_alloc(70 * dim, sizeof *some));
    static const size_t counts[] = { 1, 3, 70, 0 };
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t i = 0; i < counts[c]; i++)
            list[i] = i ? (uint32_t)rng_below(&rng, items) : (uint32_t)items - 1;
        must(ops->forward(device, list, counts[c], some, &error));
        for (size_t i = 0; i < counts[c]; i++)
            expect(!memcmp(some + i * dim, all + list[i] * dim, dim * sizeof *some),
                   "other bits in a list", dim, items, i);
    }
    list[1] = (uint32_t)items;
    expect(ops->forward(device, list, 2, some, &error) == AKIN_ARGUMENT, "no such item", dim, items,
           1);
    memory_free(some);
}

static void check_size(size_t dim, size_t items, size_t people, size_t most)
{
    struct made_graph m = make_graph(dim, items, people, most, 9, 9);
    struct graph_device *device = NULL;
    float *found = must_have(memory_alloc(items * dim, sizeof *found));
    float *again = must_have(memory_alloc(items * dim, sizeof *again));
    double *right = right_vectors(&m.graph);
    must(ops->create(0, &m.graph, &device, &error));
    expect(ops->memory(device) > items * dim * 4, "memory", dim, items, ops->memory(device));
    if (items == 1)             /* a list may come first */
        must(ops->forward(device, &m.lists[2][0], 1, found, &error));
    must(ops->forward(device, NULL, 0, found, &error));
    for (size_t i = 0; i < items; i++)
        expect(cosine(found + i * dim, right + i * dim, dim) >= 0.99999, "far from the formula",
               dim, items, i);
    if (dim <= WHOLE_CHECKS) {
        must(ops->forward(device, NULL, 0, NULL, &error));
        must(ops->forward(device, NULL, 0, again, &error));
        expect(!memcmp(found, again, items * dim * sizeof *found), "other bits again", dim, items,
               0);
        check_lists_of(device, found, dim, items);
    }
    ops->destroy(&device);
    memory_free(found);
    memory_free(again);
    memory_free(right);
    free_graph(&m);
}

static void expect_refused(const struct device_graph *graph, enum akin_status status,
                           const char *what)
{
    struct graph_device *device = NULL;
    expect(ops->create(0, graph, &device, &error) == status && !device, what, graph->dim,
           graph->items.count, 0);
}

static void check_refused(void)
{
    struct made_graph m = make_graph(64, 5, 4, 6, 3, 3);
    struct device_graph bad = m.graph;
    static const size_t dims[] = { 0, 16, 48, 1088 };
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        bad.dim = dims[i];
        expect_refused(&bad, AKIN_UNSUPPORTED, "a dimension it has no kernel for");
    }
    bad = m.graph;
    bad.items.count = 0;
    expect_refused(&bad, AKIN_UNSUPPORTED, "no items");
    uint32_t kept = m.lists[1][2];
    m.lists[1][2] = 5;
    expect_refused(&m.graph, AKIN_ARGUMENT, "a member that there is not");
    m.lists[1][2] = kept;
    kept = m.lists[2][1];
    m.lists[2][1] = m.lists[2][2] + 1;
    expect_refused(&m.graph, AKIN_ARGUMENT, "offsets that fall");
    m.lists[2][1] = kept;
    m.towers[7] = 1e6f;
    expect_refused(&m.graph, AKIN_UNSUPPORTED, "a weight beyond fp16");
    m.towers[7] = 0;
    m.numbers[64] = NAN;
    expect_refused(&m.graph, AKIN_UNSUPPORTED, "a text that is no number");
    m.numbers[64] = 0;
    struct graph_device *device = NULL;
    must(ops->create(0, &m.graph, &device, &error));
    ops->destroy(&device);
    ops->destroy(&device);
    free_graph(&m);
}

/* ---- times ------------------------------------------------------------------------------ */

/* Five people of an item and twenty items of a person on average, about what akin fit --graph
 * has. Best of the
 * turns: both hops for all, on the card alone and with the vectors' way back; 100 items. */
static void bench(void)
{
    enum { ITEMS = 62423, PEOPLE = 100000, DIM = 384, FEW = 100, TURNS = 15 };
    struct made_graph m = make_graph(DIM, ITEMS, PEOPLE, 20, 39, 9);
    struct graph_device *device = NULL;
    float *vectors = must_have(memory_alloc((size_t)ITEMS * DIM, sizeof *vectors));
    uint32_t list[FEW];
    for (uint32_t i = 0; i < FEW; i++)
        list[i] = 7 * i;
    must(ops->create(0, &m.graph, &device, &error));
    for (int kind = 0; kind < 3; kind++) {
        static const char *const names[] = {"62,423 items, left there", "62,423 items, to the host",
                                            "100 items, to the host"};
        double wall = INFINITY, card = INFINITY;
        for (int turn = -3; turn < TURNS; turn++) {
            uint64_t began = clock_monotonic_ns();
            must(ops->forward(device, kind == 2 ? list : NULL, FEW, kind ? vectors : NULL,
                              &error));
            if (turn < 0)
                continue;
            wall = fmin(wall, (double)(clock_monotonic_ns() - began) * 1e-6);
            card = fmin(card, ops->elapsed_ms(device));
        }
        printf("%s: %.3f ms of the card, %.3f ms by the clock\n", names[kind], card, wall);
    }
    printf("resident: %.1f MB\n", (double)ops->memory(device) * 1e-6);
    ops->destroy(&device);
    memory_free(vectors);
    free_graph(&m);
}

static void check(const struct cuda_plugin *plugin, bool rates)
{
    ops = plugin->graph;
    /* Thread by thread a tile of the larger ones takes seconds. */
    static const size_t dims[] = { 128, 192, 256, 384, 512, 768, 1024 };
#ifdef AKIN_CUDA_EMULATED
    size_t few = 3;
#else
    size_t few = 130;
#endif
    rng_seed(&rng, 31);
    check_refused();
    check_size(64, 1, 0, 0);
    check_size(64, 2, 3, 5000);
    check_size(64, 150, 70, 300);
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        check_size(dims[i], few, few, 20);
    if (rates)
        bench();
}

int main(int argc, char **argv)
{
    return device_check_main(argc, argv, "graph_devicecheck [cuda [--bench]]", check);
}
