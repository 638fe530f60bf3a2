/* Many at once: ready vectors, and whole requests. What a card takes goes there in one piece; the
 * rest is shared out over the threads, request by request, but for what needs all of them itself
 * or has to keep an order. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "index/filter.h"
#include "recommend/personal.h"
#include "recommend/recommend.h"

enum {
    HITS_MAX = 1 << 20,         /* hits of one search; bounds our memory */
    SHARE = 32,                 /* of what is no more than copying, that a thread takes at once */
    GROUP = 8,                  /* requests, likewise */
};

/* ---- ready vectors ---------------------------------------------------------------------- */

/* Ranges of SHARE, handed out to whoever is free. */
struct shares {
    void (*fn)(void *context, size_t begin, size_t end);
    void *context;
    size_t count;
};

static void do_share(void *context, size_t number, int worker)
{
    const struct shares *s = context;
    size_t begin = number * SHARE;
    (void)worker;
    s->fn(s->context, begin, begin + SHARE < s->count ? begin + SHARE : s->count);
}

static void share_out(struct thread_pool *pool, size_t count,
                      void (*fn)(void *context, size_t begin, size_t end), void *context)
{
    struct shares shares = { fn, context, count };
    if (pool && count > SHARE)
        thread_pool_each(pool, (count + SHARE - 1) / SHARE, do_share, &shares);
    else
        fn(context, 0, count);
}

struct batch {
    const struct space *space;
    float *vectors;             /* [step][dimension] mapped */
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

/* Vectors on their way through a card. */
struct vectors_call {
    const struct recommender *r;
    struct card_room *room;
    const float *vectors;       /* [count][dimension] */
    size_t count, k, step;      /* step: of the results */
    struct akin_recommendation *results;
    size_t *found;
};

static void set_hits(const struct hit *hits, size_t count, struct akin_recommendation *results)
{
    for (size_t i = 0; i < count; i++)
        results[i] = (struct akin_recommendation){ .row = hits[i].row,
                                                   .similarity = hits[i].score,
                                                   .score = hits[i].score,
                                                   .parts = { .text = hits[i].score } };
}

static void put_vectors(void *context, size_t begin, size_t end)
{
    const struct vectors_call *c = context;
    size_t dim = c->r->dimension;
    memcpy(c->room->room.vectors + begin * dim, c->vectors + begin * dim,
           (end - begin) * dim * sizeof *c->vectors);
}

static void take_hits(void *context, size_t begin, size_t end)
{
    const struct vectors_call *c = context;
    const struct personal_room *room = &c->room->room;
    for (size_t i = begin; i < end; i++) {
        c->found[i] = room->found[i];
        set_hits(room->hits + i * c->k, room->found[i], c->results + i * c->step);
    }
}

/* false: it is for the CPU. */
static bool nearest_on_card(struct vectors_call *c, const uint64_t *allowed)
{
    struct personal_card *card = c->r->card;
    struct thread_pool *pool = cpu_threads(c->r->backend);
    const struct personal_sizes sizes = { .vectors = c->count, .answers = c->count * c->k };
    if (c->k == 0 || c->k > SEARCH_DEVICE_K_MAX || !personal_card_works(card) ||
        !(c->room = personal_take_room(card, &sizes)))
        return false;
    share_out(pool, c->count, put_vectors, c);
    bool well = personal_nearest(card, c->count, c->k, allowed, c->room);
    if (well)
        share_out(pool, c->count, take_hits, c);
    personal_give_room(card, c->room);
    return well;
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
    size_t live;
    TRY(search_mapped(r, b, vectors, first, count, allowed_count, &live, error));
    for (size_t i = first; i < first + count; i++)
        found[i] = 0;
    for (size_t i = 0; i < live; i++) {
        found[b->places[i]] = b->found[i];
        set_hits(b->hits + i * b->k, b->found[i], results + b->places[i] * k);
    }
    return AKIN_OK;
}

/* How many of the first vectors the card answered. */
static size_t search_on_card(const struct recommender *r, const struct batch *b,
                             const float *vectors, size_t count, size_t k,
                             struct akin_recommendation *results, size_t *found)
{
    size_t at = 0;
    for (; at < count; at += at + PERSONAL_TOGETHER < count ? PERSONAL_TOGETHER : count - at) {
        struct vectors_call c = { .r = r, .vectors = vectors + at * r->dimension,
                                  .count = count - at, .k = b->k, .step = k,
                                  .results = results + at * k, .found = found + at };
        c.count = c.count < PERSONAL_TOGETHER ? c.count : PERSONAL_TOGETHER;
        if (!nearest_on_card(&c, b->allowed))
            break;
    }
    return at;
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

struct finite_check {
    const float *vectors;
    size_t dimension;
    atomic_size_t first;        /* that is not finite */
};

static void check_some(void *context, size_t begin, size_t end)
{
    struct finite_check *c = context;
    for (size_t i = begin; i < end; i++)
        if (check_finite(c->vectors + i * c->dimension, c->dimension, i, NULL) != AKIN_OK) {
            size_t first = atomic_load(&c->first);
            while (i < first && !atomic_compare_exchange_weak(&c->first, &first, i))
                continue;
            return;
        }
}

static enum akin_status check_vectors(const struct recommender *r, const float *vectors,
                                      size_t count, struct akin_error *error)
{
    struct finite_check c = { .vectors = vectors, .dimension = r->dimension };
    atomic_init(&c.first, SIZE_MAX);
    share_out(cpu_threads(r->backend), count, check_some, &c);
    size_t first = atomic_load(&c.first);
    return first == SIZE_MAX ? AKIN_OK
                             : check_finite(vectors + first * r->dimension, r->dimension, first,
                                            error);
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
    TRY(check_vectors(r, vectors, count, error));
    if (count == 0)
        return AKIN_OK;
    TRY_DONE(request_filter(r, filter, &b.allowed, &passing, error));
    TRY_DONE(recommender_space(r, &b.space, error));
    TRY_DONE(drop_blank(r, b.space, &b.allowed, &passing, error));
    b.k = k < passing ? k : passing;
    size_t answered = search_on_card(r, &b, vectors, count, k, results, found);
    if (answered == count)
        goto done;
    b.step = HITS_MAX / (b.k + 1) + 1;
    b.step = b.step < count ? b.step : count;
    b.hits = memory_alloc_aligned(b.step, (b.k + 1) * sizeof *b.hits);
    b.places = memory_alloc(b.step + 1, sizeof *b.places);
    b.found = memory_alloc(b.step, sizeof *b.found);
    if (!b.hits || !b.places || !b.found)
        TRY_DONE(error_memory(error));
    for (size_t at = answered; at < count; at += b.step)
        TRY_DONE(search_some(r, &b, vectors, at, count - at < b.step ? count - at : b.step,
                             passing, k, results, found, error));
done:
    batch_free(&b);
    return status;
}

/* ---- whole requests --------------------------------------------------------------------- */

enum request_state { WAITS, TRIED, DONE };      /* TRIED: the card left it */

/* A batch. */
struct round {
    const struct recommender *r;
    const struct recommend_inputs *inputs;
    const struct akin_request *requests;
    const float *const *query_vectors;
    struct akin_answer *answers;
    size_t *places, count;      /* which of the requests it is about */
    unsigned char *states;      /* [all requests] */
    struct mutex *lock;         /* guards the rest */
    struct akin_error *error;
    size_t first;               /* request that *error is of */
};

static void note(struct round *b, size_t number, const struct akin_error *error)
{
    mutex_lock(b->lock);
    if (number < b->first) {
        b->first = number;
        error_set(b->error, error->status, "request %zu: %.900s", number, error->message);
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
    b->states[i] = DONE;
}

/* Whether a thread of the pool may answer it: those that score everything share it out themselves,
 * and those that explore are numbered. */
static bool stands_alone(const struct round *b, size_t i)
{
    return b->r->index && !b->requests[i].explore && b->inputs &&
           request_by_parts(&b->requests[i], b->inputs);
}

static void answer_on_threads(struct round *b, size_t total)
{
    struct thread_pool *pool = cpu_threads(b->r->backend);
    for (int alone = 1; alone >= 0; alone--) {
        b->count = 0;
        for (size_t i = 0; i < total; i++)
            if (b->states[i] != DONE && (!alone || stands_alone(b, i)))
                b->places[b->count++] = i;
        if (alone && b->count > 1 && pool)
            thread_pool_each(pool, b->count, answer_one, b);
        for (size_t item = 0; item < b->count && !alone; item++)
            answer_one(b, item, 0);
    }
}

/* ---- on a card -------------------------------------------------------------------------- */

/* Requests for as many results each, in one call. Each is resolved into the card's room by one
 * thread, which takes what its lists need of the room's; where that is too little, there is another
 * turn with what was needed. */
struct card_call {
    struct round *b;
    struct card_room *room;
    size_t vectors;             /* of a request */
    size_t lists_max;
    atomic_size_t lists;        /* taken, or wanted beyond */
    uint32_t *filter_of;        /* [count], PERSONAL_NONE: none */
    bool *ready;                /* [count] */
    struct filtered {
        const char *text;
        size_t passing;
        bool right;             /* what is wrong with it, the CPU tells */
    } *filters;                 /* those that are different */
    uint64_t *masks;            /* [filter_count][words] */
    size_t filter_count;
};

static uint32_t find_filter(const struct card_call *c, const char *text)
{
    uint32_t f = 0;
    while (f < c->filter_count && text != c->filters[f].text && strcmp(text, c->filters[f].text))
        f++;
    return f;
}

/* Each once. */
static bool evaluate_filters(struct card_call *c)
{
    const struct round *b = c->b;
    size_t words = filter_words(b->r->items), room = 0;
    for (size_t item = 0; item < b->count; item++) {
        const char *text = b->requests[b->places[item]].filter;
        c->filter_of[item] = text ? find_filter(c, text) : PERSONAL_NONE;
        if (!text || c->filter_of[item] < c->filter_count)
            continue;
        if (!array_reserve((void **)&c->filters, &room, c->filter_count + 1, sizeof *c->filters))
            return false;
        c->filters[c->filter_count++] = (struct filtered){ .text = text };
    }
    c->masks = memory_alloc(c->filter_count * words + 1, sizeof *c->masks);
    for (size_t f = 0; f < c->filter_count && c->masks; f++) {
        struct filtered *filter = &c->filters[f];
        uint64_t *bits = NULL;
        filter->right =
            request_filter(b->r, filter->text, &bits, &filter->passing, NULL) == AKIN_OK;
        if (filter->right)
            memcpy(c->masks + f * words, bits, words * sizeof *bits);
        memory_free(bits);
    }
    return c->masks != NULL;
}

static bool resolve_one(struct card_call *c, struct scratch *s, size_t item)
{
    const struct round *b = c->b;
    const struct recommender *r = b->r;
    size_t i = b->places[item], passing = r->items;
    const float *query = b->query_vectors[i];
    struct asked asked = { .r = r, .request = &b->requests[i], .wanted = b->requests[i].k, .s = s,
                           .on_card = true };
    struct personal_asked found;
    uint32_t filter = c->filter_of[item];
    if (filter != PERSONAL_NONE && !c->filters[filter].right)
        return false;
    if (filter != PERSONAL_NONE)
        passing = c->filters[filter].passing;
    if (request_check(r, asked.request, query, NULL) != AKIN_OK ||
        request_resolve(&asked, query, NULL) != AKIN_OK ||
        !personal_ask(&asked, query, passing, &found))
        return false;
    found.request.mask = filter;
    size_t wanted = personal_lists(&found), first = atomic_fetch_add(&c->lists, wanted);
    const struct personal_place place = { .number = item, .vector = item * c->vectors,
                                          .list = first, .mask_count = c->filter_count };
    return first <= c->lists_max && wanted <= c->lists_max - first &&
           personal_write(r->card, c->room, &place, &found);
}

static void resolve_some(void *context, size_t group, int worker)
{
    struct card_call *c = context;
    size_t begin = group * GROUP, end = begin + GROUP < c->b->count ? begin + GROUP : c->b->count;
    struct scratch *s = scratch_take(c->b->r);
    (void)worker;
    for (size_t item = begin; item < end; item++)
        c->ready[item] = s && resolve_one(c, s, item);
    if (s)
        scratch_give(c->b->r, s);
}

/* All of them into a room that is large enough. */
static bool resolve_all(struct card_call *c)
{
    const struct round *b = c->b;
    struct thread_pool *pool = cpu_threads(b->r->backend);
    struct personal_card *card = b->r->card;
    size_t groups = (b->count + GROUP - 1) / GROUP, k = b->requests[b->places[0]].k;
    atomic_init(&c->lists, personal_listed(card) * b->count);
    for (int turn = 0; turn < 3 && atomic_load(&c->lists) > c->lists_max; turn++) {
        c->lists_max = atomic_exchange(&c->lists, 0);
        c->lists_max = c->lists_max < UINT32_MAX ? c->lists_max : UINT32_MAX;
        const struct personal_sizes sizes = { .requests = b->count, .lists = c->lists_max,
                                              .vectors = c->vectors * b->count,
                                              .answers = k * b->count };
        if (c->room)
            personal_give_room(card, c->room);
        c->room = personal_take_room(card, &sizes);
        if (!c->room)
            return false;
        for (size_t group = 0; group < groups && !pool; group++)
            resolve_some(c, group, 0);
        if (pool)
            thread_pool_each(pool, groups, resolve_some, c);
    }
    personal_note_listed(card, (atomic_load(&c->lists) + b->count - 1) / b->count);
    return true;
}

/* Those that are ready, close together; they are the places now. */
static void close_up(struct card_call *c)
{
    struct round *b = c->b;
    struct personal_request *requests = c->room->room.requests;
    size_t kept = 0;
    for (size_t item = 0; item < b->count; item++) {
        if (!c->ready[item])
            continue;
        if (kept != item)
            requests[kept] = requests[item];
        b->places[kept++] = b->places[item];
    }
    b->count = kept;
}

static void take_results(void *context, size_t begin, size_t end)
{
    const struct card_call *c = context;
    const struct round *b = c->b;
    for (size_t item = begin; item < end; item++) {
        size_t i = b->places[item];
        struct akin_answer *answer = &b->answers[i];
        size_t found = personal_results(c->room, item, b->requests[i].k, answer->results);
        if (found == PERSONAL_NOWHERE)
            continue;
        answer->status = AKIN_OK;
        answer->found = found;
        b->states[i] = DONE;
    }
}

/* What the card leaves is not done, nor is anything without the memory for it. */
static void call_card(struct round *b)
{
    struct card_call c = { .b = b, .filter_of = memory_alloc(b->count, sizeof *c.filter_of),
                           .ready = memory_alloc(b->count, sizeof *c.ready) };
    struct thread_pool *pool = cpu_threads(b->r->backend);
    size_t queries = 0, people = 0;
    for (size_t item = 0; item < b->count; item++) {
        const struct akin_request *request = &b->requests[b->places[item]];
        queries += request->query != NULL;
        people += request->user || request->history_count;
    }
    c.vectors = (queries > 0) + (people > 0);
    if (c.filter_of && c.ready && evaluate_filters(&c) && resolve_all(&c)) {
        close_up(&c);
        struct personal_call call = { .count = b->count, .masks = c.masks,
                                      .lists = atomic_load(&c.lists),
                                      .mask_count = c.filter_count };
        call.lists = call.lists < c.lists_max ? call.lists : c.lists_max;
        call.k = b->count ? b->requests[b->places[0]].k : 0;
        if (call.count && personal_answer(b->r->card, &call, c.room))
            share_out(pool, call.count, take_results, &c);
    }
    if (c.room)
        personal_give_room(b->r->card, c.room);
    memory_free(c.filter_of);
    memory_free(c.ready);
    memory_free(c.filters);
    memory_free(c.masks);
}

/* The next ones for it that want as many results each, at most as many as a call takes. */
static bool next_for_card(struct round *b, size_t total, size_t *from)
{
    size_t k = 0;
    b->count = 0;
    for (size_t i = *from; i < total && b->count < PERSONAL_TOGETHER; i++) {
        bool fits = b->states[i] == WAITS && stands_alone(b, i) &&
                    (b->count == 0 || b->requests[i].k == k) &&
                    personal_takes(b->r, b->inputs, &b->requests[i]);
        if (!fits && b->count == 0)
            *from = i + 1;
        if (!fits)
            continue;
        k = b->requests[i].k;
        b->places[b->count++] = i;
        b->states[i] = TRIED;
    }
    return b->count > 0;
}

static void answer_on_card(struct round *b, size_t total)
{
    size_t from = 0;
    while (personal_card_works(b->r->card) && b->inputs && next_for_card(b, total, &from))
        call_card(b);
}

enum akin_status recommend_batch(const struct recommender *r, const struct akin_request *requests,
                                 const float *const *query_vectors, size_t count,
                                 struct akin_answer *answers, struct akin_error *error)
{
    struct akin_error told = { 0 };
    enum akin_status status = AKIN_OK;
    struct round b = { .r = r, .requests = requests, .query_vectors = query_vectors,
                       .answers = answers, .error = &told, .first = SIZE_MAX,
                       .lock = mutex_create(), .places = memory_alloc(count + 1, sizeof *b.places),
                       .states = memory_alloc(count + 1, sizeof *b.states) };
    if (!b.lock || !b.places || !b.states)
        TRY_DONE(error_memory(error));
    if (recommender_inputs(r, &b.inputs, NULL) != AKIN_OK)
        b.inputs = NULL;
    answer_on_card(&b, count);
    answer_on_threads(&b, count);
    if (told.status != AKIN_OK)
        status = error_set(error, told.status, "%s", told.message);
done:
    mutex_destroy(&b.lock);
    memory_free(b.places);
    memory_free(b.states);
    return status;
}
