/* Workers around the encoder's forward pass: while they compute a window, they tokenise the next.
 *
 * A window is one run of the pool. Whoever is free first takes some texts of the next window to
 * tokenise, then micro-batches of this one, so that nobody waits between tokenising and computing,
 * nor between micro-batches; the workers meet once a window. A run ends early when another caller
 * waits for its turn, and goes on later.
 *
 * On cards there are fewer lanes than threads; those without one tokenise, and those with one do
 * not before all micro-batches are taken, so that the cards do not wait for them. A lane that fails
 * is not used again, and its batch is computed in another: nothing is lost or computed twice. */
#include "model/embed.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/thread.h"
#include "model/window.h"
#include "text/tokenizer.h"

/* Token ids held at once, 4 bytes each, in two windows; decides how many texts are sorted together.
 */
enum { WINDOW_TOKENS = 1 << 21 };
/* Texts that a thread tokenises before it looks for other work. */
enum { CHUNK_TEXTS = 16 };
/* Texts of the first window on cards, which wait for it; each further one is twice as large. */
enum { FIRST_TEXTS = 4096 };
/* Micro-batches for each thread before a call lets another one have its turn. */
enum { TURN_BATCHES_PER_THREAD = 8 };
/* Each lane of a card fails once at most. */
enum { FAILURES_MAX = 256 };

/* What one thread needs; used during the embedder's turn only. */
struct worker {
    struct encoder_lane lane;
    int node;                   /* that it is driven from; -1: any */
    bool computes;              /* has a lane that has not failed */
    struct tokenizer_scratch *scratch;
    int32_t *ids, *positions;   /* [batch_tokens_max] */
    uint32_t *offsets;          /* [batch_tokens_max + 1] */
    float *vectors;             /* [batch_tokens_max][dimension] */
    struct bytes prompted;      /* prompt and text */
    enum akin_status status;    /* of tokenising, in the current run */
    size_t failed_row;
    struct akin_error error;
};

struct embedder {
    struct embedder_parts parts;
    size_t batch_tokens, batch_tokens_max;  /* wanted; of one long text */
    struct worker *workers;
    size_t worker_count, lanes;
    struct mutex *failed_lock;
    struct akin_error failure;  /* of the first lane that failed; under failed_lock */
    enum akin_status failed;    /* its status */
    struct turnstile *turns;    /* whoever uses the workers is inside */
    struct window single;       /* of a call of one text, which so allocates nothing */
    atomic_bool single_taken;   /* by such a call; another one makes its own */
};

/* ---- create, destroy -------------------------------------------------------------------- */

static enum akin_status lane_init(const struct embedder *embedder, struct worker *worker,
                                  struct akin_error *error)
{
    size_t tokens = embedder->batch_tokens_max, floats;
    worker->ids = memory_alloc(tokens, sizeof *worker->ids);
    worker->positions = memory_alloc(tokens, sizeof *worker->positions);
    worker->offsets = memory_alloc(tokens + 1, sizeof *worker->offsets);
    if (!size_mul(tokens, embedder->parts.dimension, &floats))
        return error_memory(error);
    worker->vectors = memory_alloc_aligned(floats, sizeof *worker->vectors);
    if (!worker->ids || !worker->positions || !worker->offsets || !worker->vectors)
        return error_memory(error);
    TRY(encoder_lane_create(embedder->parts.encoder, (size_t)(worker - embedder->workers), tokens,
                            tokens, &worker->lane, error));
    worker->computes = true;
    return AKIN_OK;
}

/* Near its card, so that memory that is copied to and from it is there too. */
struct lane_making {
    const struct embedder *embedder;
    struct worker *worker;
    enum akin_status status;
    struct akin_error *error;
};

static void make_lane(void *context)
{
    struct lane_making *making = context;
    making->status = lane_init(making->embedder, making->worker, making->error);
}

/* Calls fn there; where the pool knows no topology, here. */
static void visit(const struct embedder *e, int node, void (*fn)(void *context), void *context)
{
    const struct topology *topology = thread_pool_topology(e->parts.pool);
    if (topology)
        topology_visit(topology, node, fn, context);
    else
        fn(context);
}

static enum akin_status lane_init_near(struct embedder *e, size_t number, struct akin_error *error)
{
    struct lane_making making = { .embedder = e, .worker = &e->workers[number], .error = error };
    making.worker->node = encoder_lane_node(e->parts.encoder, number);
    visit(e, making.worker->node, make_lane, &making);
    return making.status;
}

enum akin_status embedder_create(const struct embedder_parts *parts, struct embedder **embedder,
                                 struct akin_error *error)
{
    struct embedder *e = memory_alloc(1, sizeof *e);
    if (!e)
        return error_memory(error);
    e->parts = *parts;
    e->batch_tokens = encoder_batch_tokens(parts->encoder);
    e->batch_tokens_max = parts->tokens_max > e->batch_tokens ? parts->tokens_max : e->batch_tokens;
    e->worker_count = (size_t)thread_pool_size(parts->pool);
    e->lanes = encoder_lanes(parts->encoder, e->worker_count);
    ASSERT(encoder_on_cpu(parts->encoder) || e->lanes <= FAILURES_MAX);
    e->workers = memory_alloc(e->worker_count, sizeof *e->workers);
    e->turns = turnstile_create();
    e->failed_lock = mutex_create();
    enum akin_status status = e->workers && e->turns && e->failed_lock ? AKIN_OK
                                                                       : error_memory(error);
    if (status == AKIN_OK)
        status = window_init(&e->single, 1, parts->tokens_max, error);
    for (size_t i = 0; status == AKIN_OK && i < e->worker_count; i++)
        status = tokenizer_scratch_create(&e->workers[i].scratch, error);
    for (size_t i = 0; status == AKIN_OK && i < e->lanes; i++)
        status = lane_init_near(e, i, error);
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
        encoder_lane_destroy(e->parts.encoder, &worker->lane);
        tokenizer_scratch_destroy(&worker->scratch);
        memory_free(worker->ids);
        memory_free(worker->positions);
        memory_free(worker->offsets);
        memory_free(worker->vectors);
        bytes_deinit(&worker->prompted);
    }
    memory_free(e->workers);
    turnstile_destroy(&e->turns);
    mutex_destroy(&e->failed_lock);
    window_deinit(&e->single);
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
    size_t batch_texts, first_texts;
    bool normalize, deduplicate;
    struct akin_progress progress;
    float *vectors;             /* [count][dimension] */
    struct string_map seen;     /* text to its first number */
    struct window windows[2];
    struct window *current;     /* is computed */
    struct window *next;        /* is tokenised; rows 0: nothing is left to be */
    /* the run; whoever takes something takes what follows */
    atomic_size_t next_row;     /* of `next`, to be tokenised */
    atomic_size_t tokenized;    /* rows of `next` that are */
    atomic_size_t next_batch;   /* of `current` */
    size_t redo[FAILURES_MAX];  /* batches whose lane failed; under failed_lock, as is */
    size_t redo_count;
    size_t turn_end;            /* batches before it are computed even if others wait */
    atomic_bool stop;           /* no batch is begun any more */
    atomic_size_t done;         /* texts whose vectors are written */
    double *norms, single_norm; /* [count]; NaN: the vector is not finite */
    atomic_size_t nan_inf;
    atomic_uint_least64_t tokenize_ns, encode_ns;       /* of all threads, of all lanes */
    /* of the caller's thread */
    size_t reported;            /* the last number of texts that was */
    enum akin_status status;
    struct akin_error *error;
    /* the report */
    size_t computed;
    uint64_t tokens;
    size_t finite_rows;
    double norm_mean, norm_m2;  /* Welford 1962: one pass, no cancellation */
};

static enum akin_status call_init(struct call *call)
{
    struct embedder *e = call->embedder;
    size_t tokens_max = e->parts.tokens_max, rows = WINDOW_TOKENS / tokens_max;
    size_t windows = call->count > rows ? 2 : 1;
    call->first_texts = encoder_on_cpu(e->parts.encoder) ? rows : FIRST_TEXTS;
    call->norms = &call->single_norm;
    if (call->count > 1)
        call->norms = memory_alloc(call->count, sizeof *call->norms);
    if (!call->norms)
        return error_memory(call->error);
    call->current = &call->windows[0];
    call->next = &call->windows[1];
    if (call->count == 1 && !atomic_exchange(&e->single_taken, true)) {
        call->next = &e->single;
        return AKIN_OK;
    }
    for (size_t i = 0; i < windows; i++)
        TRY(window_init(&call->windows[1 - i], call->count < rows ? call->count : rows, tokens_max,
                        call->error));
    return AKIN_OK;
}

static void call_deinit(struct call *call)
{
    struct embedder *e = call->embedder;
    if (call->current == &e->single || call->next == &e->single)
        atomic_store(&e->single_taken, false);
    window_deinit(&call->windows[0]);
    window_deinit(&call->windows[1]);
    string_map_deinit(&call->seen);
    if (call->norms != &call->single_norm)
        memory_free(call->norms);
}

static void report_progress(struct call *call)
{
    const struct akin_progress *progress = &call->progress;
    size_t done = atomic_load(&call->done);
    if (call->status != AKIN_OK || done == call->reported)
        return;
    call->reported = done;
    if (progress->update && !progress->update(progress->cookie, "embed", done, call->count)) {
        atomic_store(&call->stop, true);
        call->status = error_set(call->error, AKIN_CANCELLED, "stopped after %zu of %zu texts",
                                 done, call->count);
    }
}

/* ---- tokenising ------------------------------------------------------------------------- */

static enum akin_status tokenize_row(const struct call *call, struct window_row *row,
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
                         worker->scratch, window_ids(call->next, row), NULL, parts->tokens_max,
                         &count, &worker->error));
    row->tokens = (uint32_t)count;
    return AKIN_OK;
}

/* false: all rows are handed out. Whoever finishes the last one cuts the window. A worker that
 * fails leaves out what follows: the rows before the first one that fails are tried by all. */
static bool tokenize_some(struct call *call, struct worker *worker)
{
    struct window *window = call->next;
    size_t begin = atomic_load(&call->next_row);
    if (begin >= window->row_count)
        return false;
    begin = atomic_fetch_add(&call->next_row, CHUNK_TEXTS);
    if (begin >= window->row_count)
        return false;
    size_t count = window->row_count - begin < CHUNK_TEXTS ? window->row_count - begin
                                                           : CHUNK_TEXTS;
    uint64_t began = clock_monotonic_ns();
    for (size_t i = begin; worker->status == AKIN_OK && i < begin + count; i++) {
        worker->status = tokenize_row(call, &window->rows[i], worker);
        worker->failed_row = i;
    }
    atomic_fetch_add(&call->tokenize_ns, clock_monotonic_ns() - began);
    if (atomic_fetch_add(&call->tokenized, count) + count == window->row_count)
        window_cut(window, call->embedder->batch_tokens,
                   encoder_batch_tokens_least(call->embedder->parts.encoder), call->batch_texts,
                   call->embedder->lanes);
    return true;
}

/* The first row that failed, if any did. */
static enum akin_status tokenize_result(const struct call *call)
{
    const struct embedder *e = call->embedder;
    const struct worker *failed = NULL;
    for (size_t i = 0; i < e->worker_count; i++) {
        const struct worker *worker = &e->workers[i];
        if (worker->status != AKIN_OK && (!failed || worker->failed_row < failed->failed_row))
            failed = worker;
    }
    if (failed && call->error)
        *call->error = failed->error;
    return failed ? failed->status : AKIN_OK;
}

/* ---- computing -------------------------------------------------------------------------- */

/* The lane is done with; its batch is not. */
static void fail_batch(struct call *call, size_t number, struct worker *worker,
                       enum akin_status status, const struct akin_error *why)
{
    struct embedder *e = call->embedder;
    worker->computes = false;
    mutex_lock(e->failed_lock);
    if (e->failed == AKIN_OK) {
        e->failed = status;
        e->failure = *why;
    }
    call->redo[call->redo_count++] = number;
    mutex_unlock(e->failed_lock);
}

/* Of the vector of a text. */
static void measure_norm(struct call *call, size_t text)
{
    size_t dimension = call->embedder->parts.dimension, wrong = 0;
    const float *vector = call->vectors + text * dimension;
    double sum = 0;
    for (size_t d = 0; d < dimension; d++) {
        wrong += !isfinite(vector[d]);
        sum += (double)vector[d] * vector[d];
    }
    call->norms[text] = wrong ? NAN : sqrt(sum);
    if (wrong)
        atomic_fetch_add(&call->nan_inf, wrong);
}

/* The tokens of a micro-batch, packed in the worker's memory. */
static struct packed_batch pack_batch(const struct call *call, const struct micro_batch *batch,
                                      struct worker *worker)
{
    const struct embedder_parts *parts = &call->embedder->parts;
    const struct window *window = call->current;
    struct packed_batch packed = { .ids = worker->ids, .positions = worker->positions,
                                   .offsets = worker->offsets };
    worker->offsets[0] = 0;
    for (size_t i = batch->begin; i < batch->end && window->rows[i].tokens; i++) {
        const struct window_row *row = &window->rows[i];
        const uint32_t *ids = window_ids(window, row);
        for (size_t t = 0; t < row->tokens; t++) {
            worker->ids[packed.tokens + t] = (int32_t)ids[t];
            worker->positions[packed.tokens + t] = (int32_t)(parts->position_first + t);
        }
        packed.tokens += row->tokens;
        worker->offsets[++packed.sequences] = (uint32_t)packed.tokens;
    }
    return packed;
}

/* Alone: the other threads work on this batch too. */
static void compute_batch(struct call *call, size_t number, struct worker *worker, bool alone)
{
    const struct embedder_parts *parts = &call->embedder->parts;
    const struct window *window = call->current;
    const struct micro_batch *batch = &window->batches[number];
    size_t row_bytes = parts->dimension * sizeof *call->vectors;
    struct akin_error why = { 0 };
    struct packed_batch packed = pack_batch(call, batch, worker);
    uint64_t began = clock_monotonic_ns();
    enum akin_status status =
        packed.sequences ? encoder_forward(parts->encoder, &worker->lane, &packed, call->normalize,
                                           worker->vectors, &why) : AKIN_OK;
    size_t lanes = alone && encoder_on_cpu(parts->encoder) ? call->embedder->lanes : 1;
    atomic_fetch_add(&call->encode_ns, (clock_monotonic_ns() - began) * lanes);
    if (status != AKIN_OK) {
        fail_batch(call, number, worker, status, &why);
        return;
    }
    for (size_t i = batch->begin, s = 0; i < batch->end; i++, s++) {
        float *vector = call->vectors + window->rows[i].text * parts->dimension;
        if (s < packed.sequences)
            memcpy(vector, worker->vectors + s * parts->dimension, row_bytes);
        else                    /* a text without a token, not even special ones: sorted last */
            memset(vector, 0, row_bytes);
        measure_norm(call, window->rows[i].text);
    }
    atomic_fetch_add(&call->done, batch->end - batch->begin);
}

/* The next micro-batch, or one that has to be done again; false: there is none. */
static bool take_batch(struct call *call, size_t *number)
{
    struct embedder *e = call->embedder;
    *number = atomic_fetch_add(&call->next_batch, 1);
    if (*number < call->current->batch_count)
        return true;
    mutex_lock(e->failed_lock);
    bool again = call->redo_count > 0;
    if (again)
        *number = call->redo[--call->redo_count];
    mutex_unlock(e->failed_lock);
    return again;
}

/* Batches of the window that nobody has taken; no run is under way. */
static size_t batches_left(const struct call *call)
{
    size_t taken = call->next_batch, all = call->current->batch_count;
    return (taken < all ? all - taken : 0) + call->redo_count;
}

/* One micro-batch alone, such as a query: the threads share its operations instead. */
static void compute_together(struct call *call)
{
    const struct embedder *e = call->embedder;
    struct worker *worker = e->workers;
    size_t number;
    while (!worker->computes)
        worker++;
    encoder_lane_team(e->parts.encoder, &worker->lane, true);
    if (take_batch(call, &number))
        compute_batch(call, number, worker, true);
    encoder_lane_team(e->parts.encoder, &worker->lane, false);
}

/* ---- runs ------------------------------------------------------------------------------- */

static bool others_wait(const struct call *call)
{
    return turnstile_wanted(call->embedder->turns) ||
           thread_pool_wanted(call->embedder->parts.pool);
}

/* What one thread does in a run. */
struct shift {
    struct call *call;
    int number;
};

static void work_here(void *context)
{
    const struct shift *shift = context;
    struct call *call = shift->call;
    int number = shift->number;
    const struct embedder *e = call->embedder;
    struct worker *worker = &e->workers[number];
    bool computes_first = worker->computes && !encoder_on_cpu(e->parts.encoder);
    while (!computes_first && tokenize_some(call, worker))
        ;
    for (size_t i; worker->computes && !atomic_load(&call->stop) && take_batch(call, &i);) {
        compute_batch(call, i, worker, false);
        if (number == 0)        /* the caller's own thread */
            report_progress(call);
        if (i + 1 >= call->turn_end && others_wait(call))
            atomic_store(&call->stop, true);
    }
    while (computes_first && tokenize_some(call, worker))
        ;
}

static void work(void *context, size_t item, int number)
{
    struct shift shift = { .call = context, .number = number };
    const struct embedder *e = shift.call->embedder;
    const struct worker *worker = &e->workers[number];
    (void)item;
    visit(e, worker->computes ? worker->node : -1, work_here, &shift);
}

/* Threads that have something to do: no other is woken. Which ones take part is not known, so all
 * are asked where some have no lane. */
static size_t run_workers(const struct call *call, size_t batches)
{
    const struct embedder *e = call->embedder;
    size_t rows = call->next->row_count - call->tokenized;
    size_t items = (rows + CHUNK_TEXTS - 1) / CHUNK_TEXTS + batches;
    return items < e->worker_count && e->lanes == e->worker_count ? items : e->worker_count;
}

/* AKIN_OK while a lane is left. */
static enum akin_status lanes_result(const struct call *call)
{
    const struct embedder *e = call->embedder;
    for (size_t i = 0; i < e->lanes; i++)
        if (e->workers[i].computes)
            return AKIN_OK;
    if (call->error)
        *call->error = e->failure;
    return e->failed;
}

/* One turn: what is left to be tokenised, and micro-batches until all are done or others wait. */
static void run_turn(struct call *call)
{
    struct embedder *e = call->embedder;
    turnstile_enter(e->turns);
    size_t batches = batches_left(call);
    for (size_t i = 0; i < e->worker_count; i++)
        e->workers[i].status = AKIN_OK;
    atomic_store(&call->stop, false);
    call->turn_end = call->next_batch + TURN_BATCHES_PER_THREAD * e->lanes;
    if (call->status == AKIN_OK)
        call->status = lanes_result(call);
    if (call->status != AKIN_OK) {
        turnstile_leave(e->turns);
        return;
    }
    if (batches == 1 && call->next->row_count == call->tokenized)
        compute_together(call);
    else
        thread_pool_each(e->parts.pool, run_workers(call, batches), work, call);
    if (call->status == AKIN_OK)
        call->status = tokenize_result(call);
    turnstile_leave(e->turns);
}

/* Computes `current` and tokenises `next`. */
static void compute_window(struct call *call)
{
    struct window *window = call->current;
    size_t row_floats = call->embedder->parts.dimension;
    call->next_row = call->tokenized = call->next_batch = 0;
    call->redo_count = 0;
    do {
        run_turn(call);
        report_progress(call);
    } while (call->status == AKIN_OK && batches_left(call) > 0);
    if (call->status != AKIN_OK)
        return;
    for (size_t i = 0; i < window->repeat_count; i++)
        memcpy(call->vectors + window->repeats[i].text * row_floats,
               call->vectors + window->repeats[i].first * row_floats,
               row_floats * sizeof *call->vectors);
    for (size_t i = 0; i < window->row_count; i++)
        call->tokens += window->rows[i].tokens;
    call->done += window->repeat_count;
    call->computed += window->row_count;
    report_progress(call);
}

/* ---- report ----------------------------------------------------------------------------- */

/* In the order of the texts, so that the same ones give the same figures. */
static void add_norms(struct call *call, const struct window *window)
{
    for (size_t i = 0; i < window->repeat_count; i++)
        measure_norm(call, window->repeats[i].text);
    for (size_t i = window->begin; i < window->end; i++) {
        if (isnan(call->norms[i]))
            continue;
        double delta = call->norms[i] - call->norm_mean;
        call->finite_rows++;
        call->norm_mean += delta / (double)call->finite_rows;
        call->norm_m2 += delta * (call->norms[i] - call->norm_mean);
    }
}

/* The first pass has nothing to compute yet, the last one nothing to tokenise. */
static enum akin_status embed_windows(struct call *call)
{
    struct string_map *seen = call->deduplicate ? &call->seen : NULL;
    size_t begin = 0, most = call->first_texts;
    while (call->status == AKIN_OK && call->reported < call->count) {
        size_t end = call->count - begin < most ? call->count : begin + most;
        TRY(window_fill(call->next, call->texts, begin, end, seen, call->error));
        begin = call->next->end;
        most *= most < call->count ? 2 : 1;
        compute_window(call);
        if (call->status == AKIN_OK)
            add_norms(call, call->current);
        struct window *computed = call->current;
        call->current = call->next;
        call->next = computed;
    }
    return call->status;
}

enum akin_status embedder_embed(struct embedder *embedder, const struct akin_text *texts,
                                size_t count, const struct akin_embed_settings *settings,
                                float *vectors, struct akin_embed_report *report,
                                struct akin_error *error)
{
    uint64_t start_ns = clock_monotonic_ns();
    struct call call = { .embedder = embedder, .texts = texts, .count = count,
                         .prompt = settings->prompt, .batch_texts = settings->batch_texts,
                         .deduplicate = settings->deduplicate && count > 1,
                         .progress = settings->progress, .vectors = vectors, .error = error };
    call.prompt_bytes = settings->prompt ? strlen(settings->prompt) : 0;
    call.normalize = settings->normalize == AKIN_NORMALIZE_AS_MODEL
                         ? embedder->parts.normalize : settings->normalize == AKIN_NORMALIZE_YES;
    enum akin_status status = count ? call_init(&call) : AKIN_OK;
    if (status == AKIN_OK)
        status = embed_windows(&call);
    if (status == AKIN_OK && report)
        *report = (struct akin_embed_report){
            .texts = count, .texts_computed = call.computed, .tokens = call.tokens,
            .seconds = (double)(clock_monotonic_ns() - start_ns) * 1e-9,
            .threads = embedder->worker_count, .lanes = embedder->lanes,
            .tokenize_seconds = (double)call.tokenize_ns * 1e-9,
            .encode_seconds = (double)call.encode_ns * 1e-9,
            .mean_norm = call.norm_mean, .nan_inf = call.nan_inf,
            .std_norm = call.finite_rows ? sqrt(call.norm_m2 / (double)call.finite_rows) : 0,
        };
    call_deinit(&call);
    return status;
}
