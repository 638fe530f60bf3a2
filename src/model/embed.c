/* Windows, micro-batches and workers around the encoder's forward pass. */
#include "model/embed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/thread.h"
#include "text/tokenizer.h"

/* Tokens computed together by one thread: large enough for the matrix products to run at speed,
 * small enough for the activations to stay near the core (192 tokens of MiniLM are 2 MB, used a
 * part at a time). Measured with the embed benchmark; it never changes a bit of the result. */
enum { BATCH_TOKENS = 192 };
/* Token ids held at once, 4 bytes each; decides how many texts are sorted together. */
enum { WINDOW_TOKENS = 1 << 22 };
/* Micro-batches for each thread between two reports of progress. */
enum { GROUP_BATCHES_PER_THREAD = 8 };

/* What one thread needs; used under the embedder's lock only. */
struct worker {
    struct lane *lane;
    struct tokenizer_scratch *scratch;
    int32_t *ids, *positions;   /* [batch_tokens_max] */
    uint32_t *offsets;          /* [batch_tokens_max + 1] */
    float *vectors;             /* [batch_tokens_max][dimension] */
    struct bytes prompted;      /* prompt and text */
    enum akin_status status;    /* of tokenising, in the current window */
    size_t failed_row;
    struct akin_error error;
};

/* A text that is computed. */
struct row {
    size_t text;                /* its number in the call */
    uint32_t slot;              /* its ids are at slot * tokens_max */
    uint32_t tokens;
};

/* A text that equals an earlier one. */
struct repeat {
    size_t text, first;
};

struct micro_batch {
    size_t begin, end;          /* of rows */
    size_t tokens;
};

/* What a call of a single text needs: one such call at a time allocates nothing. */
struct single {
    bool taken;                 /* under the embedder's lock */
    struct row row;
    struct repeat repeat;
    struct micro_batch batch;
    uint32_t *ids;              /* [tokens_max] */
};

struct embedder {
    struct embedder_parts parts;
    size_t batch_tokens_max;
    struct worker *workers;
    size_t worker_count;
    struct single single;
    struct mutex *workers_lock;
};

/* ---- create, destroy -------------------------------------------------------------------- */

static enum akin_status worker_init(const struct embedder *embedder, struct worker *worker,
                                    struct akin_error *error)
{
    size_t tokens = embedder->batch_tokens_max;
    worker->ids = memory_alloc(tokens, sizeof *worker->ids);
    worker->positions = memory_alloc(tokens, sizeof *worker->positions);
    worker->offsets = memory_alloc(tokens + 1, sizeof *worker->offsets);
    size_t floats;
    if (!size_mul(tokens, embedder->parts.dimension, &floats))
        return error_memory(error);
    worker->vectors = memory_alloc_aligned(floats, sizeof *worker->vectors);
    if (!worker->ids || !worker->positions || !worker->offsets || !worker->vectors)
        return error_memory(error);
    TRY(tokenizer_scratch_create(&worker->scratch, error));
    return encoder_lane_create(embedder->parts.encoder, tokens, tokens, &worker->lane, error);
}

enum akin_status embedder_create(const struct embedder_parts *parts, struct embedder **embedder,
                                 struct akin_error *error)
{
    struct embedder *e = memory_alloc(1, sizeof *e);
    if (!e)
        return error_memory(error);
    e->parts = *parts;
    e->batch_tokens_max = parts->tokens_max > BATCH_TOKENS ? parts->tokens_max : BATCH_TOKENS;
    e->worker_count = (size_t)thread_pool_size(parts->pool);
    e->workers = memory_alloc(e->worker_count, sizeof *e->workers);
    e->single.ids = memory_alloc_aligned(parts->tokens_max, sizeof *e->single.ids);
    e->workers_lock = mutex_create();
    enum akin_status status =
        e->workers && e->single.ids && e->workers_lock ? AKIN_OK : error_memory(error);
    for (size_t i = 0; status == AKIN_OK && i < e->worker_count; i++)
        status = worker_init(e, &e->workers[i], error);
    if (status == AKIN_OK)
        *embedder = e;
    else
        embedder_destroy(&e);
    return status;
}

void embedder_destroy(struct embedder **embedder)
{
    struct embedder *e = *embedder;
    if (!e)
        return;
    for (size_t i = 0; e->workers && i < e->worker_count; i++) {
        struct worker *worker = &e->workers[i];
        if (worker->lane)
            e->parts.backend->ops->lane_destroy(&worker->lane);
        tokenizer_scratch_destroy(&worker->scratch);
        memory_free(worker->ids);
        memory_free(worker->positions);
        memory_free(worker->offsets);
        memory_free(worker->vectors);
        bytes_deinit(&worker->prompted);
    }
    memory_free(e->workers);
    memory_free(e->single.ids);
    mutex_destroy(&e->workers_lock);
    memory_free(e);
    *embedder = NULL;
}

/* ---- one call --------------------------------------------------------------------------- */

struct call {
    struct embedder *embedder;
    const struct akin_text *texts;
    size_t count;
    const char *prompt;
    size_t prompt_bytes;
    size_t batch_texts;
    bool normalize, deduplicate;
    bool single;                /* the embedder's memory serves */
    struct akin_progress progress;
    float *vectors;             /* [count][dimension] */
    /* the current window */
    size_t window_rows;         /* most rows in a window */
    struct row *rows;           /* [window_rows] */
    size_t row_count;
    struct repeat *repeats;     /* [window_rows] */
    size_t repeat_count;
    uint32_t *ids;              /* [window_rows][tokens_max] */
    struct micro_batch *batches;
    size_t batch_count, batch_capacity;
    size_t batch_first;         /* of the group being computed */
    size_t next_text;           /* texts before it have been taken into a window */
    size_t done;                /* texts whose vectors are written */
    struct string_map seen;     /* text to its first number */
    /* the report */
    size_t computed;
    uint64_t tokens;
    size_t finite_rows, nan_inf;
    double norm_mean, norm_m2;  /* Welford 1962: one pass, no cancellation */
};

/* Without memory of its own, where no other call of a single text is running. */
static bool take_single(struct call *call)
{
    struct single *single = &call->embedder->single;
    if (call->count != 1)
        return false;
    mutex_lock(call->embedder->workers_lock);
    bool taken = single->taken;
    single->taken = true;
    mutex_unlock(call->embedder->workers_lock);
    if (taken)
        return false;
    call->single = true;
    call->rows = &single->row;
    call->repeats = &single->repeat;
    call->ids = single->ids;
    call->batches = &single->batch;
    call->window_rows = call->batch_capacity = 1;
    return true;
}

static enum akin_status call_init(struct call *call, struct akin_error *error)
{
    if (take_single(call))
        return AKIN_OK;
    size_t tokens_max = call->embedder->parts.tokens_max;
    call->window_rows = WINDOW_TOKENS / tokens_max;
    if (call->window_rows > call->count)
        call->window_rows = call->count;
    call->rows = memory_alloc(call->window_rows, sizeof *call->rows);
    call->repeats = memory_alloc(call->window_rows, sizeof *call->repeats);
    call->ids = memory_alloc_aligned(call->window_rows * tokens_max, sizeof *call->ids);
    return call->rows && call->repeats && call->ids ? AKIN_OK : error_memory(error);
}

static void call_deinit(struct call *call)
{
    if (call->single) {
        mutex_lock(call->embedder->workers_lock);
        call->embedder->single.taken = false;
        mutex_unlock(call->embedder->workers_lock);
        return;
    }
    memory_free(call->rows);
    memory_free(call->repeats);
    memory_free(call->ids);
    memory_free(call->batches);
    string_map_deinit(&call->seen);
}

/* Takes texts until the window is full. */
static enum akin_status fill_window(struct call *call, struct akin_error *error)
{
    call->row_count = call->repeat_count = 0;
    while (call->next_text < call->count && call->row_count < call->window_rows &&
           call->repeat_count < call->window_rows) {
        size_t text = call->next_text++;
        uint64_t first = text;
        bool fresh = true;
        if (call->deduplicate) {
            const char *bytes = call->texts[text].count ? call->texts[text].bytes : "";
            if (!string_map_put(&call->seen, bytes, call->texts[text].count, text, &first, &fresh))
                return error_memory(error);
        }
        if (fresh) {
            call->rows[call->row_count] = (struct row){ .text = text,
                                                        .slot = (uint32_t)call->row_count };
            call->row_count++;
        } else {
            call->repeats[call->repeat_count++] = (struct repeat){ .text = text, .first = first };
        }
    }
    return AKIN_OK;
}

/* ---- tokenising ------------------------------------------------------------------------- */

static enum akin_status tokenize_row(const struct call *call, struct row *row,
                                     struct worker *worker)
{
    const struct embedder_parts *parts = &call->embedder->parts;
    struct akin_text text = call->texts[row->text];
    if (call->prompt_bytes) {
        bytes_clear(&worker->prompted);
        bytes_append(&worker->prompted, call->prompt, call->prompt_bytes);
        bytes_append(&worker->prompted, text.bytes, text.count);
        if (worker->prompted.failed)
            return error_memory(&worker->error);
        text = (struct akin_text){.bytes = worker->prompted.data, .count = worker->prompted.count};
    }
    size_t count = 0;
    TRY(tokenizer_encode(parts->tokenizer, text.count ? text.bytes : "", text.count,
                         worker->scratch, call->ids + (size_t)row->slot * parts->tokens_max, NULL,
                         parts->tokens_max, &count, &worker->error));
    row->tokens = (uint32_t)count;
    return AKIN_OK;
}

static void tokenize_item(void *context, size_t item, int worker_number)
{
    struct call *call = context;
    struct worker *worker = &call->embedder->workers[worker_number];
    if (worker->status != AKIN_OK)
        return;
    worker->status = tokenize_row(call, &call->rows[item], worker);
    worker->failed_row = item;
}

static enum akin_status tokenize_window(struct call *call, struct akin_error *error)
{
    struct embedder *e = call->embedder;
    mutex_lock(e->workers_lock);
    for (size_t i = 0; i < e->worker_count; i++)
        e->workers[i].status = AKIN_OK;
    thread_pool_each(e->parts.pool, call->row_count, tokenize_item, call);
    const struct worker *failed = NULL;
    for (size_t i = 0; i < e->worker_count; i++) {
        const struct worker *worker = &e->workers[i];
        if (worker->status != AKIN_OK && (!failed || worker->failed_row < failed->failed_row))
            failed = worker;
    }
    enum akin_status status = failed ? failed->status : AKIN_OK;
    if (failed && error)
        *error = failed->error;
    mutex_unlock(e->workers_lock);
    for (size_t i = 0; status == AKIN_OK && i < call->row_count; i++)
        call->tokens += call->rows[i].tokens;
    return status;
}

/* ---- micro-batches ---------------------------------------------------------------------- */

/* Longest first: batches of equal shape, and the small ones fill the gaps at the end. */
static int compare_rows(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->tokens != y->tokens)
        return x->tokens > y->tokens ? -1 : 1;
    return (x->slot > y->slot) - (x->slot < y->slot);
}

static enum akin_status add_batch(struct call *call, struct micro_batch batch,
                                  struct akin_error *error)
{
    if (!array_reserve((void **)&call->batches, &call->batch_capacity, call->batch_count + 1,
                       sizeof *call->batches))
        return error_memory(error);
    call->batches[call->batch_count++] = batch;
    return AKIN_OK;
}

/* Cuts the sorted rows. A few texts are spread over the threads rather than put in one batch. */
static enum akin_status cut_batches(struct call *call, struct akin_error *error)
{
    size_t threads = call->embedder->worker_count, tokens = 0;
    for (size_t i = 0; i < call->row_count; i++)
        tokens += call->rows[i].tokens;
    size_t budget = (tokens + threads - 1) / threads;
    if (budget > BATCH_TOKENS)
        budget = BATCH_TOKENS;
    qsort(call->rows, call->row_count, sizeof *call->rows, compare_rows);
    call->batch_count = 0;
    struct micro_batch batch = { 0 };
    for (size_t i = 0; i < call->row_count; i++) {
        size_t texts = i - batch.begin;
        if (texts && (batch.tokens + call->rows[i].tokens > budget || texts == call->batch_texts)) {
            TRY(add_batch(call, batch, error));
            batch = (struct micro_batch){ .begin = i };
        }
        batch.end = i + 1;
        batch.tokens += call->rows[i].tokens;
    }
    return call->row_count ? add_batch(call, batch, error) : AKIN_OK;
}

static void compute_batch(void *context, size_t item, int worker_number)
{
    const struct call *call = context;
    const struct embedder_parts *parts = &call->embedder->parts;
    struct worker *worker = &call->embedder->workers[worker_number];
    const struct micro_batch *batch = &call->batches[call->batch_first + item];
    struct packed_batch packed = { .ids = worker->ids, .positions = worker->positions,
                                   .offsets = worker->offsets };
    worker->offsets[0] = 0;
    for (size_t i = batch->begin; i < batch->end && call->rows[i].tokens; i++) {
        const struct row *row = &call->rows[i];
        const uint32_t *ids = call->ids + (size_t)row->slot * parts->tokens_max;
        for (size_t t = 0; t < row->tokens; t++) {
            worker->ids[packed.tokens + t] = (int32_t)ids[t];
            worker->positions[packed.tokens + t] = (int32_t)(parts->position_first + t);
        }
        packed.tokens += row->tokens;
        worker->offsets[++packed.sequences] = (uint32_t)packed.tokens;
    }
    size_t row_bytes = parts->dimension * sizeof *call->vectors;
    if (packed.sequences)
        encoder_forward(parts->encoder, worker->lane, &packed, call->normalize, worker->vectors);
    for (size_t i = batch->begin, s = 0; i < batch->end; i++, s++) {
        float *vector = call->vectors + call->rows[i].text * parts->dimension;
        if (s < packed.sequences)
            memcpy(vector, worker->vectors + s * parts->dimension, row_bytes);
        else                    /* a text without a token, not even special ones: sorted last */
            memset(vector, 0, row_bytes);
    }
}

/* One micro-batch alone, such as a query: the threads share its operations instead. */
static void compute_together(struct call *call)
{
    const struct backend_ops *ops = call->embedder->parts.backend->ops;
    struct lane *lane = call->embedder->workers[0].lane;
    ops->lane_team(lane, true);
    compute_batch(call, 0, 0);
    ops->lane_team(lane, false);
}

static enum akin_status report_progress(const struct call *call, struct akin_error *error)
{
    const struct akin_progress *progress = &call->progress;
    if (progress->update && !progress->update(progress->cookie, "embed", call->done, call->count))
        return error_set(error, AKIN_CANCELLED, "stopped after %zu of %zu texts", call->done,
                         call->count);
    return AKIN_OK;
}

static enum akin_status compute_window(struct call *call, struct akin_error *error)
{
    struct embedder *e = call->embedder;
    size_t group = e->worker_count * GROUP_BATCHES_PER_THREAD;
    for (size_t first = 0; first < call->batch_count; first += group) {
        size_t count = call->batch_count - first < group ? call->batch_count - first : group;
        call->batch_first = first;
        mutex_lock(e->workers_lock);
        if (count == 1)
            compute_together(call);
        else
            thread_pool_each(e->parts.pool, count, compute_batch, call);
        mutex_unlock(e->workers_lock);
        call->done += call->batches[first + count - 1].end - call->batches[first].begin;
        TRY(report_progress(call, error));
    }
    size_t dimension = e->parts.dimension;
    for (size_t i = 0; i < call->repeat_count; i++)
        memcpy(call->vectors + call->repeats[i].text * dimension,
               call->vectors + call->repeats[i].first * dimension,
               dimension * sizeof *call->vectors);
    call->done += call->repeat_count;
    call->computed += call->row_count;
    return call->repeat_count ? report_progress(call, error) : AKIN_OK;
}

/* ---- report ----------------------------------------------------------------------------- */

static void measure_rows(struct call *call, size_t begin, size_t end)
{
    size_t dimension = call->embedder->parts.dimension;
    for (size_t i = begin; i < end; i++) {
        const float *vector = call->vectors + i * dimension;
        double sum = 0;
        size_t wrong = 0;
        for (size_t d = 0; d < dimension; d++) {
            wrong += !isfinite(vector[d]);
            sum += (double)vector[d] * vector[d];
        }
        call->nan_inf += wrong;
        if (wrong)
            continue;
        double norm = sqrt(sum), delta = norm - call->norm_mean;
        call->finite_rows++;
        call->norm_mean += delta / (double)call->finite_rows;
        call->norm_m2 += delta * (norm - call->norm_mean);
    }
}

static enum akin_status embed_windows(struct call *call, struct akin_error *error)
{
    while (call->next_text < call->count) {
        size_t begin = call->next_text;
        TRY(fill_window(call, error));
        TRY(tokenize_window(call, error));
        TRY(cut_batches(call, error));
        TRY(compute_window(call, error));
        measure_rows(call, begin, call->next_text);
    }
    return AKIN_OK;
}

enum akin_status embedder_embed(struct embedder *embedder, const struct akin_text *texts,
                                size_t count, const struct akin_embed_settings *settings,
                                float *vectors, struct akin_embed_report *report,
                                struct akin_error *error)
{
    uint64_t start_ns = clock_monotonic_ns();
    struct call call = {.embedder = embedder,
                        .texts = texts,
                        .count = count,
                        .prompt = settings->prompt,
                        .batch_texts = settings->batch_texts,
                        .deduplicate = settings->deduplicate && count > 1,
                        .progress = settings->progress,
                        .vectors = vectors};
    call.prompt_bytes = settings->prompt ? strlen(settings->prompt) : 0;
    call.normalize = settings->normalize == AKIN_NORMALIZE_AS_MODEL
                         ? embedder->parts.normalize : settings->normalize == AKIN_NORMALIZE_YES;
    enum akin_status status = call_init(&call, error);
    if (status == AKIN_OK)
        status = embed_windows(&call, error);
    if (status == AKIN_OK && report)
        *report = (struct akin_embed_report){
            .texts = count, .texts_computed = call.computed, .tokens = call.tokens,
            .seconds = (double)(clock_monotonic_ns() - start_ns) * 1e-9,
            .mean_norm = call.norm_mean, .nan_inf = call.nan_inf,
            .std_norm = call.finite_rows ? sqrt(call.norm_m2 / (double)call.finite_rows) : 0,
        };
    call_deinit(&call);
    return status;
}
