/* Many at once: ready vectors, and whole requests. What a card takes goes there in one piece; the
 * rest is shared out over the threads, request by request, but for what needs all of them itself
 * or has to keep an order. */
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "index/filter.h"
#include "recommend/personal.h"
#include "recommend/recommend.h"

enum {
    HITS_MAX = 1 << 20,         /* hits of one search; bounds our memory */
    REQUESTS_TOGETHER = 4096,   /* likewise, of a card */
};

/* ---- ready vectors ---------------------------------------------------------------------- */

struct batch {
    const struct space *space;
    float *vectors;             /* [step][dimension] mapped; NULL: a card maps them */
    struct hit *hits;           /* [step][k] */
    size_t *places;             /* [step] which of the caller's vectors */
    size_t *found;              /* [step] */
    uint64_t *allowed;
    size_t step, k;
};

static void batch_free(struct batch *b)
{
    memory_free(b->vectors);
    memory_free(b->hits);
    memory_free(b->places);
    memory_free(b->found);
    memory_free(b->allowed);
}

/* false: it is for the CPU. */
static bool nearest_on_card(const struct recommender *r, struct batch *b, const float *vectors,
                            size_t first, size_t count)
{
    if (!personal_card_works(r->card) || b->k > SEARCH_DEVICE_K_MAX)
        return false;
    for (size_t i = 0; i < count; i++)
        b->places[i] = first + i;
    return personal_nearest(r->card, vectors, count, b->k, b->allowed, b->hits, b->found);
}

/* Those that point somewhere, *live of them. */
static enum akin_status search_mapped(const struct recommender *r, struct batch *b,
                                      const float *vectors, size_t first, size_t count,
                                      size_t allowed_count, size_t *live, struct akin_error *error)
{
    *live = 0;
    if (!b->vectors)
        b->vectors = memory_alloc_aligned(b->step, r->dimension * sizeof *b->vectors);
    if (!b->vectors)
        return error_memory(error);
    for (size_t i = first; i < first + count; i++) {
        b->places[*live] = i;
        *live += space_map(b->space, r->backend, vectors + i * r->dimension,
                           b->vectors + *live * r->dimension);
    }
    if (b->k == 0)
        *live = 0;
    struct space_query query = { .vectors = b->vectors, .count = *live, .k = b->k,
                                 .allowed = b->allowed, .allowed_count = allowed_count,
                                 .recall = REQUEST_RECALL };
    return *live ? space_search(b->space, r->backend, r->index, &query, b->hits, b->found, error)
                 : AKIN_OK;
}

/* Vectors [first, first + count): those that point somewhere are searched for together. */
static enum akin_status search_some(const struct recommender *r, struct batch *b,
                                    const float *vectors, size_t first, size_t count,
                                    size_t allowed_count, size_t k,
                                    struct akin_recommendation *results, size_t *found,
                                    struct akin_error *error)
{
    size_t live = count;
    if (b->k == 0 || !nearest_on_card(r, b, vectors + first * r->dimension, first, count))
        TRY(search_mapped(r, b, vectors, first, count, allowed_count, &live, error));
    for (size_t i = first; i < first + count; i++)
        found[i] = 0;
    for (size_t i = 0; i < live; i++) {
        struct akin_recommendation *to = results + b->places[i] * k;
        found[b->places[i]] = b->found[i];
        for (size_t rank = 0; rank < b->found[i]; rank++) {
            const struct hit *hit = &b->hits[i * b->k + rank];
            to[rank] = (struct akin_recommendation){ .row = hit->row, .similarity = hit->score,
                                                     .score = hit->score,
                                                     .parts = { .text = hit->score } };
        }
    }
    return AKIN_OK;
}

/* Items without a text are found by nobody. */
static enum akin_status drop_blank(const struct recommender *r, const struct space *space,
                                   uint64_t **allowed, size_t *passing, struct akin_error *error)
{
    size_t words = filter_words(r->items);
    if (space->blank_count == 0)
        return AKIN_OK;
    if (!*allowed) {
        *allowed = memory_alloc(words + 1, sizeof **allowed);
        if (!*allowed)
            return error_memory(error);
        for (size_t w = 0; w < words; w++)
            (*allowed)[w] = ~0ull;
        if (r->items % 64)
            (*allowed)[words - 1] = ~0ull >> (64 - r->items % 64);
    }
    *passing = 0;
    for (size_t w = 0; w < words; w++) {
        (*allowed)[w] &= ~space->blank[w];
        *passing += (size_t)__builtin_popcountll((*allowed)[w]);
    }
    return AKIN_OK;
}

/* Without a branch in the loop: it runs over all that is asked. */
static enum akin_status check_finite(const float *vector, size_t dimension, size_t number,
                                     struct akin_error *error)
{
    uint32_t wrong = 0;
    for (size_t i = 0; i < dimension; i++) {
        uint32_t bits;
        memcpy(&bits, &vector[i], sizeof bits);
        wrong |= (bits & 0x7f800000) == 0x7f800000;
    }
    for (size_t i = 0; wrong && i < dimension; i++)
        if (!isfinite(vector[i]))
            return error_set(error, AKIN_ARGUMENT, "vector %zu: column %zu is not finite", number,
                             i);
    return AKIN_OK;
}

enum akin_status recommend_vectors(const struct recommender *r, const float *vectors, size_t count,
                                   size_t k, const char *filter,
                                   struct akin_recommendation *results, size_t *found,
                                   struct akin_error *error)
{
    struct batch b = { 0 };
    size_t passing;
    enum akin_status status = AKIN_OK;
    if (k > K_MAX)
        return error_set(error, AKIN_LIMIT, "k is %zu: at most %d results at once", k, K_MAX);
    for (size_t i = 0; i < count; i++)
        TRY(check_finite(vectors + i * r->dimension, r->dimension, i, error));
    if (count == 0)
        return AKIN_OK;
    TRY_DONE(request_filter(r, filter, &b.allowed, &passing, error));
    TRY_DONE(recommender_space(r, &b.space, error));
    TRY_DONE(drop_blank(r, b.space, &b.allowed, &passing, error));
    b.k = k < passing ? k : passing;
    b.step = HITS_MAX / (b.k + 1) + 1;
    b.step = b.step < count ? b.step : count;
    b.hits = memory_alloc_aligned(b.step, (b.k + 1) * sizeof *b.hits);
    b.places = memory_alloc(b.step + 1, sizeof *b.places);
    b.found = memory_alloc(b.step, sizeof *b.found);
    if (!b.hits || !b.places || !b.found)
        TRY_DONE(error_memory(error));
    for (size_t at = 0; at < count; at += b.step)
        TRY_DONE(search_some(r, &b, vectors, at, count - at < b.step ? count - at : b.step,
                             passing, k, results, found, error));
done:
    batch_free(&b);
    return status;
}

/* ---- whole requests --------------------------------------------------------------------- */

/* A request on its way to a card: what it has of its own, copied from where it was resolved. */
struct card_request {
    struct personal_request asked;
    uint32_t past[PAST_MAX], *skip, *history;   /* history lies behind skip */
    float past_weights[PAST_MAX];
    bool ready;
};

struct round {
    const struct recommender *r;
    const struct akin_request *requests;
    const float *const *query_vectors;
    struct akin_answer *answers;
    size_t *places, count;      /* which of the requests it is about */
    bool *done;                 /* [all requests] */
    const struct filtered {
        const char *text;
        uint64_t *bits;
        size_t passing;
    } *filters;                 /* those that are different */
    size_t filter_count;
    struct card_request *ready; /* [count] */
    float *persons;             /* [count][dimension] */
    struct mutex *lock;         /* guards the rest */
    struct akin_error *error;
    size_t first;               /* request that *error is of */
    size_t begin;               /* number of requests[0] */
};

static void note(struct round *b, size_t number, const struct akin_error *error)
{
    mutex_lock(b->lock);
    if (number < b->first) {
        b->first = number;
        error_set(b->error, error->status, "request %zu: %.900s", b->begin + number,
                  error->message);
    }
    mutex_unlock(b->lock);
}

static void answer_one(void *context, size_t item, int worker)
{
    struct round *b = context;
    size_t i = b->places[item];
    struct akin_answer *answer = &b->answers[i];
    struct akin_error error;
    (void)worker;
    answer->status = recommend(b->r, &b->requests[i], b->query_vectors[i], answer->results, NULL,
                               &answer->found, NULL, &error);
    if (answer->status != AKIN_OK) {
        answer->found = 0;
        note(b, i, &error);
    }
    b->done[i] = true;
}

/* Whether a thread of the pool may answer it: those that score everything share it out themselves,
 * and those that explore are numbered. */
static bool stands_alone(const struct round *b, size_t i)
{
    const struct recommend_inputs *inputs;
    return b->r->index && !b->requests[i].explore &&
           recommender_inputs(b->r, &inputs, NULL) == AKIN_OK &&
           request_by_parts(&b->requests[i], inputs);
}

static size_t choose(struct round *b, size_t total, bool (*wanted)(const struct round *, size_t))
{
    b->count = 0;
    for (size_t i = 0; i < total; i++)
        if (!b->done[i] && (!wanted || wanted(b, i)))
            b->places[b->count++] = i;
    return b->count;
}

static void answer_on_threads(struct round *b, size_t total)
{
    struct thread_pool *pool = cpu_threads(b->r->backend);
    if (choose(b, total, stands_alone) > 1 && pool)
        thread_pool_each(pool, b->count, answer_one, b);
    choose(b, total, NULL);
    for (size_t item = 0; item < b->count; item++)
        answer_one(b, item, 0);
}

/* ---- on a card -------------------------------------------------------------------------- */

static bool is_taken(const struct round *b, size_t i)
{
    return stands_alone(b, i) && personal_takes(b->r, &b->requests[i]) &&
           request_check(b->r, &b->requests[i], b->query_vectors[i], NULL) == AKIN_OK;
}

/* The filters that the requests at hand have, each once; what is wrong with one, the CPU tells. */
static void evaluate_filters(struct round *b, struct filtered *filters)
{
    b->filters = filters;
    b->filter_count = 0;
    for (size_t item = 0; item < b->count; item++) {
        const char *text = b->requests[b->places[item]].filter;
        struct filtered *f = filters;
        while (f < filters + b->filter_count && text && strcmp(f->text, text))
            f++;
        if (!text || f < filters + b->filter_count)
            continue;
        *f = (struct filtered){ .text = text };
        b->filter_count++;
        (void)request_filter(b->r, text, &f->bits, &f->passing, NULL);
    }
}

static bool keep(struct card_request *c, float *person, size_t dimension)
{
    struct personal_request *asked = &c->asked;
    c->skip = memory_alloc(asked->skip_count + asked->history_count + 1, sizeof *c->skip);
    if (!c->skip)
        return false;
    c->history = c->skip + asked->skip_count;
    for (size_t i = 0; i < asked->skip_count; i++)
        c->skip[i] = asked->skip[i];
    for (size_t i = 0; i < asked->history_count; i++)
        c->history[i] = asked->history[i];
    asked->history = c->history;
    memcpy(c->past, asked->past, asked->past_count * sizeof *c->past);
    memcpy(c->past_weights, asked->past_weights, asked->past_count * sizeof *c->past_weights);
    if (asked->person)
        memcpy(person, asked->person, dimension * sizeof *person);
    asked->person = asked->person ? person : NULL;
    asked->skip = c->skip;
    asked->past = c->past;
    asked->past_weights = c->past_weights;
    return true;
}

static void resolve_one(void *context, size_t item, int worker)
{
    struct round *b = context;
    const struct recommender *r = b->r;
    struct card_request *c = &b->ready[item];
    size_t i = b->places[item], passing = r->items, filter = 0;
    const char *text = b->requests[i].filter;
    (void)worker;
    while (text && strcmp(b->filters[filter].text, text))
        filter++;
    if (text && !b->filters[filter].bits)
        return;
    struct scratch *s = scratch_take(r);
    if (!s)
        return;
    struct asked asked = { .r = r, .request = &b->requests[i], .wanted = b->requests[i].k, .s = s,
                           .on_card = true };
    passing = text ? b->filters[filter].passing : passing;
    if (request_resolve(&asked, b->query_vectors[i], NULL) == AKIN_OK &&
        personal_ask(&asked, b->query_vectors[i], passing, &c->asked))
        c->ready = keep(c, b->persons + item * r->dimension, r->dimension);
    c->asked.mask = text ? (uint32_t)filter : UINT32_MAX;
    scratch_give(r, s);
}

/* What one call to the card is made of. */
struct call_room {
    struct personal_request *requests;      /* [count], and so are these */
    struct akin_recommendation **results;
    size_t *found, *numbers;
    uint64_t *masks;            /* [filters][words] */
};

static void room_free(struct call_room *room)
{
    memory_free(room->requests);
    memory_free(room->results);
    memory_free(room->found);
    memory_free(room->numbers);
    memory_free(room->masks);
}

static bool room_make(const struct round *b, struct call_room *room)
{
    size_t words = filter_words(b->r->items);
    room->requests = memory_alloc(b->count, sizeof *room->requests);
    room->results = memory_alloc(b->count, sizeof *room->results);
    room->found = memory_alloc(b->count, sizeof *room->found);
    room->numbers = memory_alloc(b->count, sizeof *room->numbers);
    room->masks = memory_alloc(b->filter_count * words + 1, sizeof *room->masks);
    if (!room->requests || !room->results || !room->found || !room->numbers || !room->masks)
        return false;
    for (size_t f = 0; f < b->filter_count; f++)
        if (b->filters[f].bits)
            memcpy(room->masks + f * words, b->filters[f].bits, words * sizeof *room->masks);
    return true;
}

/* Those that want as many results as the first that is left, in one call. */
static size_t call_card(struct round *b, struct call_room *room)
{
    struct personal_call call = { .requests = room->requests, .masks = room->masks,
                                  .mask_count = b->filter_count, .results = room->results,
                                  .found = room->found };
    for (size_t item = 0; item < b->count; item++) {
        struct card_request *c = &b->ready[item];
        size_t i = b->places[item];
        if (!c->ready || (call.count && b->requests[i].k != call.k))
            continue;
        call.k = b->requests[i].k;
        room->results[call.count] = b->answers[i].results;
        room->numbers[call.count] = i;
        room->requests[call.count++] = c->asked;
        c->ready = false;
    }
    if (call.count && personal_answer(b->r->card, &call))
        for (size_t at = 0; at < call.count; at++)
            if (room->found[at] != PERSONAL_NOWHERE) {
                b->answers[room->numbers[at]].status = AKIN_OK;
                b->answers[room->numbers[at]].found = room->found[at];
                b->done[room->numbers[at]] = true;
            }
    return call.count;
}

/* What the card leaves is not done, nor is anything without the memory for it. */
static void answer_on_card(struct round *b, size_t total)
{
    struct call_room room = { 0 };
    if (!personal_card_works(b->r->card) || choose(b, total, is_taken) < 2)
        return;
    struct filtered *filters = memory_alloc(b->count, sizeof *filters);
    b->ready = memory_alloc(b->count, sizeof *b->ready);
    b->persons = memory_alloc_aligned(b->count, b->r->dimension * sizeof *b->persons);
    if (!filters || !b->ready || !b->persons)
        goto done;
    evaluate_filters(b, filters);
    if (!room_make(b, &room))
        goto done;
    struct thread_pool *pool = cpu_threads(b->r->backend);
    for (size_t item = 0; item < b->count && !pool; item++)
        resolve_one(b, item, 0);
    if (pool)
        thread_pool_each(pool, b->count, resolve_one, b);
    while (call_card(b, &room))
        continue;
done:
    for (size_t item = 0; b->ready && item < b->count; item++)
        memory_free(b->ready[item].skip);
    for (size_t f = 0; filters && f < b->filter_count; f++)
        memory_free(filters[f].bits);
    room_free(&room);
    memory_free(filters);
    memory_free(b->ready);
    memory_free(b->persons);
    b->ready = NULL;
    b->persons = NULL;
    b->filter_count = 0;
}

enum akin_status recommend_batch(const struct recommender *r, const struct akin_request *requests,
                                 const float *const *query_vectors, size_t count,
                                 struct akin_answer *answers, struct akin_error *error)
{
    size_t most = count < REQUESTS_TOGETHER ? count : REQUESTS_TOGETHER;
    struct akin_error told = { 0 };
    enum akin_status status = AKIN_OK;
    struct round b = { .r = r, .error = &told, .lock = mutex_create(),
                       .places = memory_alloc(most + 1, sizeof *b.places),
                       .done = memory_alloc(most + 1, sizeof *b.done) };
    if (!b.lock || !b.places || !b.done)
        TRY_DONE(error_memory(error));
    for (size_t at = 0; at < count; at += most) {
        size_t now = count - at < most ? count - at : most;
        b.requests = requests + at;
        b.query_vectors = query_vectors + at;
        b.answers = answers + at;
        b.begin = at;
        b.first = told.status == AKIN_OK ? SIZE_MAX : 0;
        memset(b.done, 0, most * sizeof *b.done);
        answer_on_card(&b, now);
        answer_on_threads(&b, now);
    }
    if (told.status != AKIN_OK)
        status = error_set(error, told.status, "%s", told.message);
done:
    mutex_destroy(&b.lock);
    memory_free(b.places);
    memory_free(b.done);
    return status;
}
