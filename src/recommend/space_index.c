/* See space_index.h: a build whose blocks go to memory instead of a file. */
#include "recommend/space_index.h"

#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "base/thread.h"
#include "index/flat.h"

enum { BLOCKS_MAX = 8 };

struct space_index {
    struct segment *segment;
    struct segment_block blocks[BLOCKS_MAX];
    struct bytes pending;       /* of the last block */
    size_t count;
    uint64_t bytes;
    const struct search_device_ops *card_ops;
    struct search_device *card;         /* NULL: none; used under the lock */
    struct mutex *card_lock;
    atomic_bool card_works, card_untold;    /* untold: it failed, and nobody heard of it; */
    struct akin_error card_why;             /* under the lock */
};

/* ---- the sink --------------------------------------------------------------------------- */

/* What was appended to the last block goes to memory of its size and alignment. */
static enum akin_status settle(struct space_index *index, struct akin_error *error)
{
    struct bytes *from = &index->pending;
    if (index->count == 0)
        return AKIN_OK;
    void *data = from->failed ? NULL : memory_alloc_aligned(from->count + 1, 1);
    if (!data)
        return error_memory(error);
    if (from->count)
        memcpy(data, from->data, from->count);
    index->blocks[index->count - 1].data = data;
    index->blocks[index->count - 1].bytes = from->count;
    index->bytes += from->count;
    bytes_deinit(from);
    return AKIN_OK;
}

static enum akin_status begin_block(void *context, uint32_t type, struct akin_error *error)
{
    struct space_index *index = context;
    TRY(settle(index, error));
    ASSERT(index->count < BLOCKS_MAX);
    index->blocks[index->count++].type = type;
    return AKIN_OK;
}

static enum akin_status append(void *context, const void *data, size_t bytes,
                               struct akin_error *error)
{
    struct space_index *index = context;
    bytes_append(&index->pending, data, bytes);
    return index->pending.failed ? error_memory(error) : AKIN_OK;
}

/* ---- create and destroy ----------------------------------------------------------------- */

enum akin_status space_index_create(struct backend *backend, const struct space *space,
                                    struct akin_progress progress, struct space_index **index,
                                    struct akin_error *error)
{
    struct space_index *made = memory_alloc(1, sizeof *made);
    enum akin_status status = AKIN_OK;
    if (!made)
        return error_memory(error);
    struct segment_build build = {
        .backend = backend, .pool = cpu_threads(backend),
        .rows = { .vectors = space->vectors, .element = ELEMENT_F32, .count = space->items,
                  .dim = space->dim, .score = SCORE_INNER_PRODUCT },
        .settings = { .seed = 1, .progress = progress },
    };
    struct segment_sink sink = { made, begin_block, append };
    TRY_DONE(segment_build(SEGMENT_FLAT, &build, &sink, error));
    TRY_DONE(settle(made, error));
    struct segment_blocks blocks = { made->blocks, made->count };
    TRY_DONE(segment_open(SEGMENT_FLAT, backend, build.pool, &build.rows, &blocks, &made->segment,
                          error));
    *index = made;
done:
    if (status != AKIN_OK)
        space_index_destroy(&made);
    return status;
}

void space_index_destroy(struct space_index **index)
{
    struct space_index *made = *index;
    if (!made)
        return;
    if (made->card)
        made->card_ops->destroy(&made->card);
    mutex_destroy(&made->card_lock);
    segment_close(&made->segment);
    for (size_t i = 0; i < made->count; i++)
        memory_free((void *)made->blocks[i].data);
    bytes_deinit(&made->pending);
    memory_free(made);
    *index = NULL;
}

uint64_t space_index_bytes(const struct space_index *index)
{
    return index ? index->bytes : 0;
}

bool space_bound(const struct space_index *index, const float *vector, const uint32_t *items,
                 size_t count, float *values, float *errors)
{
    return flat_bound(segment_flat(index->segment), vector, items, count, values, errors);
}

/* ---- a card ----------------------------------------------------------------------------- */

enum akin_status space_index_use_card(struct space_index *index, const struct space *space,
                                      const struct search_device_ops *ops, int ordinal,
                                      struct akin_error *error)
{
    if (!index->card_lock)
        index->card_lock = mutex_create();
    if (!index->card_lock)
        return error_memory(error);
    if (index->card)
        return AKIN_OK;
    index->card_ops = ops;
    TRY(ops->create(ordinal, space->vectors, space->items, space->dim, &index->card, error));
    atomic_store(&index->card_works, true);
    return AKIN_OK;
}

const struct search_device *space_index_card(const struct space_index *index)
{
    return index ? index->card : NULL;
}

bool space_index_card_failed(struct space_index *index, struct akin_error *why)
{
    if (!index || !atomic_load(&index->card_untold) ||
        !atomic_exchange(&index->card_untold, false))
        return false;
    mutex_lock(index->card_lock);
    *why = index->card_why;
    mutex_unlock(index->card_lock);
    return true;
}

/* false: the index itself has to answer. */
static bool search_on_card(struct space_index *index, const struct space_query *query,
                           size_t items, struct hit *hits, size_t *found)
{
    if (!index->card || query->k > SEARCH_DEVICE_K_MAX || !atomic_load(&index->card_works))
        return false;
    struct device_query asked = {
        .queries = query->vectors, .query_count = query->count, .k = query->k,
        .masks = query->allowed, .mask_count = query->allowed ? 1 : 0,
        .mask_words = (items + 63) / 64,
    };
    enum akin_status status = AKIN_UNSUPPORTED;
    mutex_lock(index->card_lock);
    if (atomic_load(&index->card_works))
        status = index->card_ops->search(index->card, &asked, hits, found, NULL,
                                         &index->card_why);
    if (status != AKIN_OK && status != AKIN_UNSUPPORTED) {
        atomic_store(&index->card_works, false);
        atomic_store(&index->card_untold, true);
    }
    mutex_unlock(index->card_lock);
    return status == AKIN_OK;
}

/* ---- search ----------------------------------------------------------------------------- */

enum akin_status space_search(const struct space *space, struct backend *backend,
                              struct space_index *index, const struct space_query *query,
                              struct hit *hits, size_t *found, struct akin_error *error)
{
    if (index && search_on_card(index, query, space->items, hits, found))
        return AKIN_OK;
    if (index) {
        struct segment_query asked = {
            .queries = query->vectors, .count = query->count, .k = query->k,
            .allowed = query->allowed, .allowed_count = query->allowed_count,
            .exact = query->recall >= 1, .recall = query->recall,
        };
        struct segment_hits out = { hits, found };
        return segment_search(index->segment, &asked, &out, error);
    }
    struct topk_request request = {
        .rows = space->vectors, .row_count = space->items, .dim = space->dim,
        .queries = query->vectors, .query_count = query->count, .k = query->k,
        .score = SCORE_INNER_PRODUCT, .allowed = query->allowed,
    };
    return cpu_topk(backend, &request, hits, found, error);
}
