/* Several contexts on one card, as several cards: what they compute together has the bits of one
 * alone, also when some of them fail at some batch; when all have failed, that is told.
 *
 *   encode_contextcheck MODEL [COUNT [LIBRARY]]    LIBRARY: libakin-cuda.so; else it is looked for
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "device_check.h"
#include "model/model.h"

enum { CONTEXTS = 3, STREAMS_MAX = 32, TEXTS_MAX = 100000, THREADS = 12 };

static struct akin_text texts[TEXTS_MAX];
static const struct encoder_device_ops *real;

/* ---- faults ------------------------------------------------------------------------------ */

static struct encoder_device *contexts[CONTEXTS];
static struct encoder_stream *streams[STREAMS_MAX];
static int context_of[STREAMS_MAX];
static size_t context_count, stream_count;
static int fails_at[CONTEXTS];  /* the batch of a context from which on it fails; 0: never */
static atomic_int batches[CONTEXTS];

static enum akin_status create(int ordinal, const struct encoder_shape *shape,
                               const struct embedding_tables *tables,
                               struct encoder_device **device, struct akin_error *why)
{
    TRY(real->create(ordinal, shape, tables, device, why));
    contexts[context_count++ % CONTEXTS] = *device;
    return AKIN_OK;
}

static enum akin_status stream_create(struct encoder_device *device, size_t tokens,
                                      size_t sequences, struct encoder_stream **stream,
                                      struct akin_error *why)
{
    TRY(real->stream_create(device, tokens, sequences, stream, why));
    ASSERT(stream_count < STREAMS_MAX);
    for (int i = 0; i < CONTEXTS; i++)
        if (contexts[i] == device)
            context_of[stream_count] = i;
    streams[stream_count++] = *stream;
    return AKIN_OK;
}

static enum akin_status run(struct encoder_stream *stream, const struct packed_batch *batch,
                            bool normalize, float *vectors, struct akin_error *why)
{
    size_t i = 0;
    while (streams[i] != stream)
        i++;
    int context = context_of[i], number = atomic_fetch_add(&batches[context], 1) + 1;
    if (fails_at[context] && number >= fails_at[context])
        return error_set(why, AKIN_IO, "context %d fell out, as it was told to", context);
    return real->run(stream, batch, normalize, vectors, why);
}

/* ---- runs -------------------------------------------------------------------------------- */

static void make_texts(size_t count)
{
    static const char *const words[] = { "film", "dark", "story", "city", "of", "lost", "children",
                                         "heat" };
    for (size_t i = 0; i < count; i++) {
        char text[256];
        int at = snprintf(text, sizeof text, "number %zu", i);
        for (size_t w = 0; w < i * 7 % 19; w++)
            at += snprintf(text + at, sizeof text - (size_t)at, " %s", words[(i + w * w) % 8]);
        texts[i] = (struct akin_text){ must_have(memory_copy_string(text)), (size_t)at };
    }
}

/* vectors [count][dimension], which the caller frees. */
static enum akin_status embed_on(size_t cards_count, struct thread_pool *pool, const char *folder,
                                 size_t count, float **vectors, size_t *dimension)
{
    struct encoder_device_ops ops = *real;
    struct encoder_cards cards = { .ops = &ops, .count = cards_count };
    struct akin_model_info info;
    struct akin_embed_settings settings;
    struct model *model = NULL;
    ops.create = create;
    ops.stream_create = stream_create;
    ops.run = run;
    context_count = stream_count = 0;
    memset((void *)batches, 0, sizeof batches);
    for (size_t i = 0; i < cards_count; i++)
        cards.nodes[i] = -1;
    must(model_open_on_cards(&cards, pool, folder, AKIN_PRECISION_FP16, NULL, &model, &error));
    model_info(model, &info);
    *dimension = info.dimension;
    *vectors = must_have(memory_alloc(count * info.dimension, sizeof **vectors));
    model_embed_settings_default(&settings);
    enum akin_status status = model_embed(model, texts, count, &settings, *vectors, NULL, &error);
    model_close(&model);
    return status;
}

int main(int argc, char **argv)
{
    static const int faults[][CONTEXTS] = { { 0, 0, 0 }, { 0, 1, 0 }, { 0, 3, 1 }, { 2, 0, 2 } };
    size_t count = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 20000, dimension = 0;
    if (argc < 2 || argc > 4 || count < 1 || count > TEXTS_MAX) {
        fputs("usage: encode_contextcheck MODEL [COUNT [LIBRARY]]\n", stderr);
        return 2;
    }
    real = device_check_plugin(argc > 3 ? argv[3] : NULL)->encoder;
    make_texts(count);
    struct thread_pool *pool = must_have(thread_pool_create(THREADS));
    float *alone, *together;
    must(embed_on(1, pool, argv[1], count, &alone, &dimension));
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        memcpy(fails_at, faults[f], sizeof fails_at);
        must(embed_on(CONTEXTS, pool, argv[1], count, &together, &dimension));
        bool same = memcmp(alone, together, count * dimension * sizeof *alone) == 0;
        printf("%s%d contexts that fail at %d, %d, %d: %d, %d and %d batches\n",
               same ? "" : "FAILED: other bits: ", CONTEXTS, fails_at[0], fails_at[1], fails_at[2],
               (int)batches[0], (int)batches[1], (int)batches[2]);
        checks++;
        failures += !same;
        memory_free(together);
    }
    fails_at[0] = fails_at[1] = fails_at[2] = 1;
    checks++;
    if (embed_on(CONTEXTS, pool, argv[1], count, &together, &dimension) != AKIN_IO) {
        printf("FAILED: all contexts are gone, and nobody says so\n");
        failures++;
    }
    memory_free(together);
    memory_free(alone);
    thread_pool_destroy(&pool);
    for (size_t i = 0; i < count; i++)
        memory_free((void *)texts[i].bytes);
    printf("encode_contextcheck: %d checks, %d failed\n", checks, failures);
    return failures > 0;
}
