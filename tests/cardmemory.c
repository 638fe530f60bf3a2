/* What a card holds when everything is resident: a model with its streams, 62,423 items, the lists
 * of neighbours, requests of people by parts, 100,000 users, 1,000 bandits of 1,000 arms; and the
 * graph of items and 100,000 people, while it is fitted. By hand.
 *
 *   cardmemory [LIBRARY]     libakin-cuda.so, or the one of the tests with cards that are made up
 *
 * Bytes are counted as they are allocated, so that cards that are made up hold as many; what the
 * driver takes beside them (a context, the code of kernels) only a card shows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "device_check.h"

enum {
    ITEMS = 62423, DIM = 384, USERS = 100000, BANDITS = 1000, ARMS = 1000, WEIGHTS = 200,
    VOCABULARY = 30522, POSITIONS = 512, INTERMEDIATE = 1536, TOKENS_MAX = 512,
};

static const struct cuda_plugin *plugin;
static size_t told;

static void tell(const char *what, enum cuda_use use)
{
    static size_t before[CUDA_USES];
    size_t now = plugin->memory(0, use);
    printf("%-44s %9.1f MB\n", what, (double)(now - before[use]) / 1e6);
    told += now - before[use];
    before[use] = now;
}

static struct host_matrix matrix(size_t rows, size_t cols)
{
    return (struct host_matrix){ .data = must_have(memory_alloc(rows * cols, sizeof(float))),
                                 .type = ELEMENT_F32, .rows = rows, .cols = cols };
}

static void put_weights(struct encoder_device *device, size_t layers)
{
    static const size_t rows[] = { 3 * DIM, DIM, INTERMEDIATE, DIM };
    static const size_t cols[] = { DIM, DIM, DIM, INTERMEDIATE };
    float *bias = must_have(memory_alloc(3 * DIM + INTERMEDIATE, sizeof *bias));
    for (size_t layer = 0; layer < layers; layer++)
        for (int i = 0; i < ENCODER_LINEARS; i++) {
            struct host_matrix m = matrix(rows[i], cols[i]);
            must(plugin->encoder->set_linear(device, layer, (enum encoder_linear)i, &m, bias,
                                             &error));
            if (i < ENCODER_NORMS)
                must(plugin->encoder->set_norm(device, layer, (enum encoder_norm)i, bias, bias,
                                               &error));
            memory_free((void *)m.data);
        }
    memory_free(bias);
}

static void encoder(size_t layers, struct encoder_device **device, struct encoder_stream **streams)
{
    const struct encoder_device_ops *ops = plugin->encoder;
    float *norm = must_have(memory_alloc(DIM, sizeof *norm));
    struct embedding_tables tables = { .word = matrix(VOCABULARY, DIM),
                                       .position = matrix(POSITIONS, DIM), .type = matrix(2, DIM),
                                       .gamma = norm, .beta = norm };
    struct encoder_shape shape = { .hidden = DIM, .heads = DIM / 32, .layers = layers,
                                   .intermediate = INTERMEDIATE, .precision = COMPUTE_FP16 };
    char name[64];
    must(ops->create(0, &shape, &tables, device, &error));
    put_weights(*device, layers);
    snprintf(name, sizeof name, "weights of %zu layers, fp16", layers);
    tell(name, CUDA_USE_ENCODER);
    size_t tokens = ops->batch_tokens > TOKENS_MAX ? ops->batch_tokens : (size_t)TOKENS_MAX;
    for (size_t i = 0; i < ops->streams; i++)
        must(ops->stream_create(*device, tokens, tokens, &streams[i], &error));
    snprintf(name, sizeof name, "its %zu streams of %zu tokens", ops->streams, tokens);
    tell(name, CUDA_USE_ENCODER);
}

/* What a batch of 1,000 queries leaves allocated, for `k` results. Few rows pass, so that cards
 * that are made up are soon done; that changes no sizes. */
static void in_flight(struct search_device *rows, const float *vectors, size_t k, const char *what)
{
    enum { QUERIES = 1000, WORDS = (ITEMS + 63) / 64, PASSING = 3 };
    uint64_t *mask = must_have(memory_alloc(WORDS, sizeof *mask));
    uint32_t *mask_of = must_have(memory_alloc(QUERIES, sizeof *mask_of));
    struct hit *hits = must_have(memory_alloc(QUERIES * k, sizeof *hits));
    size_t *found = must_have(memory_alloc(QUERIES, sizeof *found));
    struct device_query query = { .queries = vectors, .query_count = QUERIES, .k = k,
                                  .masks = mask, .mask_of = mask_of, .mask_count = 1,
                                  .mask_words = WORDS };
    mask[0] = (1 << PASSING) - 1;
    must(plugin->search->search(rows, &query, hits, found, NULL, &error));
    tell(what, CUDA_USE_SEARCH);
    memory_free(mask);
    memory_free(mask_of);
    memory_free(hits);
    memory_free(found);
}

static void personal(const struct search_device *rows, struct personal_device **device)
{
    uint64_t *starts = must_have(memory_alloc(ITEMS + 1, sizeof *starts));
    struct item_weight *entries = must_have(memory_alloc((size_t)ITEMS * WEIGHTS,
                                                         sizeof *entries));
    float *mean = must_have(memory_alloc(DIM, sizeof *mean));
    for (size_t i = 0; i < (size_t)ITEMS * WEIGHTS; i++)
        entries[i] = (struct item_weight){ (uint32_t)(i % WEIGHTS * 300 + i / WEIGHTS % 300), 1 };
    for (size_t i = 0; i <= ITEMS; i++)
        starts[i] = i * WEIGHTS;
    struct personal_items items = { .mean = mean,
                                    .similar = { ITEMS, starts, entries } };
    must(plugin->personal->create(0, rows, &items, device, &error));
    tell("people by parts, 200 weights an item", CUDA_USE_PERSONAL);
}

/* Lists of `each` members below `limit`. */
static struct device_lists lists_of(size_t count, size_t each, size_t limit)
{
    uint32_t *offsets = must_have(memory_alloc(count + 1, sizeof *offsets));
    uint32_t *members = must_have(memory_alloc(count * each, sizeof *members));
    for (size_t i = 0; i <= count; i++)
        offsets[i] = (uint32_t)(i * each);
    for (size_t i = 0; i < count * each; i++)
        members[i] = (uint32_t)(i * 2654435761u % limit);
    return (struct device_lists){ count, offsets, members };
}

static void graph(const float *vectors, struct graph_device **device)
{
    enum { PEOPLE_OF_ITEM = 5, ITEMS_OF_PERSON = 20 };     /* as recommend/graph_sage.h has them */
    const float **texts = must_have(memory_alloc(ITEMS, sizeof *texts));
    float *tower = must_have(memory_alloc(2 * DIM * DIM + 4 * DIM, sizeof *tower));
    for (size_t i = 0; i < ITEMS; i++)
        texts[i] = vectors + i * DIM;
    struct device_graph all = { .dim = DIM, .texts = texts, .towers = { tower, tower },
                                .people = lists_of(USERS, ITEMS_OF_PERSON, ITEMS),
                                .items = lists_of(ITEMS, PEOPLE_OF_ITEM, USERS) };
    must(plugin->graph->create(0, &all, device, &error));
    tell("the graph while it is fitted", CUDA_USE_GRAPH);
}

int main(int argc, char **argv)
{
    enum { LAYERS = 12, STREAMS_MAX = 8 };
    struct encoder_device *model = NULL;
    struct encoder_stream *streams[STREAMS_MAX] = { NULL };
    struct search_device *search = NULL, *lists = NULL;
    struct personal_device *people = NULL;
    struct user_device *users = NULL;
    struct bandit_device *bandits = NULL;
    struct graph_device *kin = NULL;
    plugin = device_check_plugin(argc > 1 ? argv[1] : NULL);
    if (plugin->encoder->streams > STREAMS_MAX) {
        printf("skipped: %zu streams of a model\n", plugin->encoder->streams);
        return 77;
    }
    float *vectors = must_have(memory_alloc((size_t)ITEMS * DIM, sizeof *vectors));
    float *shapes = must_have(memory_alloc((size_t)BANDITS * ARMS, sizeof *shapes));
    for (size_t i = 0; i < (size_t)ITEMS * DIM; i++)
        vectors[i] = (float)(i * 2654435761u % 1000) * 1e-4f;
    for (size_t i = 0; i < (size_t)BANDITS * ARMS; i++)
        shapes[i] = 1 + (float)(i % 50);
    encoder(LAYERS, &model, streams);
    must(plugin->search->create(0, vectors, ITEMS, DIM, &search, &error));
    tell("62,423 items that are searched", CUDA_USE_SEARCH);
    in_flight(search, vectors, 10, "a batch of queries on its way");
    personal(search, &people);
    must(plugin->search->create(0, vectors, ITEMS, DIM, &lists, &error));
    plugin->search->drop_int8(lists);
    tell("the same items for lists of neighbours", CUDA_USE_SEARCH);
    in_flight(lists, vectors, 201, "lists on their way");
    const struct device_people all = { .items = vectors, .item_count = ITEMS, .dim = DIM,
                                       .user_count = USERS, .fast = 0.1f, .slow = 0.01f,
                                       .rating_max = 5 };
    must(plugin->users->create(0, &all, &users, &error));
    tell("100,000 users and the items they rate", CUDA_USE_USERS);
    must(plugin->bandit->create(0, shapes, shapes, BANDITS, ARMS, &bandits, &error));
    tell("1,000 bandits of 1,000 arms", CUDA_USE_BANDITS);
    printf("%-44s %9.1f MB\n", "all that serves", (double)told / 1e6);
    graph(vectors, &kin);
    printf("%-44s %9.1f MB\n", "all", (double)told / 1e6);
    struct cuda_description d;
    must(plugin->device_describe(0, &d, &error));
    printf("%s: %.1f MB are taken of it, by whomever\n", d.name,
           (double)(d.memory_total - d.memory_free) / 1e6);
    plugin->graph->destroy(&kin);
    plugin->bandit->destroy(&bandits);
    plugin->users->destroy(&users);
    plugin->personal->destroy(&people);
    plugin->search->destroy(&lists);
    plugin->search->destroy(&search);
    for (size_t i = 0; i < plugin->encoder->streams; i++)
        plugin->encoder->stream_destroy(&streams[i]);
    plugin->encoder->destroy(&model);
    for (int i = 0; i < CUDA_USES; i++)
        if (plugin->memory(0, (enum cuda_use)i) != 0) {
            printf("FAILED: use %d still holds %zu bytes\n", i,
                   plugin->memory(0, (enum cuda_use)i));
            failures++;
        }
    return failures > 0;
}
