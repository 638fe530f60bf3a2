/* See request.h: names to rows, people to vectors, and everything to one vector. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "catalog/catalog.h"
#include "compute/cpu/kernels.h"
#include "index/filter.h"
#include "recommend/request.h"
#include "recommend/users_state.h"

/* An item of the past counts half for three that came after it: 2^(-i / 3). */
static float past_weight(size_t i)
{
    static const float thirds[] = { 1, 0.7937005259840998f, 0.6299605249474366f };
    return thirds[i % 3] / (float)(1u << i / 3);
}

/* A visit that is longer ago than this was another one. Not tuned. */
enum { SESSION_SECONDS = 3600 };

/* ---- what is refused -------------------------------------------------------------------- */

static enum akin_status check_share(const char *name, float value, struct akin_error *error)
{
    if (!(value >= 0 && value <= 1))
        return error_set(error, AKIN_ARGUMENT, "%s %g: it is a number from 0 to 1", name,
                         (double)value);
    return AKIN_OK;
}

/* Rewards are what a user says later, and are kept. */
static enum akin_status check_explore(const struct recommender *r,
                                      const struct akin_request *request, struct akin_error *error)
{
    size_t bytes = request->user ? strnlen(request->user, USER_NAME_BYTES_MAX + 1) : 0;
    if (!r->explore)
        return error_set(error, AKIN_ARGUMENT, "explore: choices are kept in akin.db, and this "
                         "recommender was opened without it: set `store`");
    if (bytes == 0 || bytes > USER_NAME_BYTES_MAX || !utf8_valid(request->user, bytes))
        return error_set(error, AKIN_ARGUMENT, "explore: it needs a user of 1 to %d bytes of "
                         "UTF-8, whose ratings say what the choices were worth",
                         USER_NAME_BYTES_MAX);
    if (request->ranking == AKIN_RANK_VECTORS)
        return error_set(error, AKIN_ARGUMENT, "explore: it goes by parts, not by vectors");
    if (request->now < 0)
        return error_set(error, AKIN_ARGUMENT, "now: %lld: it is in seconds since 1970",
                         (long long)request->now);
    return AKIN_OK;
}

enum akin_status request_check(const struct recommender *r, const struct akin_request *request,
                               const float *query_vector, struct akin_error *error)
{
    if (request->k > K_MAX)
        return error_set(error, AKIN_LIMIT, "k is %zu: at most %d results at once", request->k,
                         K_MAX);
    if (!(request->query_weight <= 1))
        return error_set(error, AKIN_ARGUMENT, "query weight %g: it is a number from 0 to 1",
                         (double)request->query_weight);
    TRY(check_share("diversity", request->diversity, error));
    TRY(check_share("recall", request->recall, error));
    if (!(request->popularity <= POPULARITY_WEIGHT_MAX))
        return error_set(error, AKIN_ARGUMENT, "popularity %g: it is a weight from 0 to %d",
                         (double)request->popularity, POPULARITY_WEIGHT_MAX);
    if (request->history_count > REQUEST_ITEMS_MAX || request->exclude_count > REQUEST_ITEMS_MAX)
        return error_set(error, AKIN_LIMIT, "%s: %zu items: at most %d in one request",
                         request->history_count > REQUEST_ITEMS_MAX ? "history" : "exclude",
                         request->history_count > REQUEST_ITEMS_MAX ? request->history_count
                                                                    : request->exclude_count,
                         REQUEST_ITEMS_MAX);
    if (!request->similar && !request->user && !request->query && !request->history_count)
        return error_set(error, AKIN_ARGUMENT,
                         "nothing to recommend by: name an item, a user, a history or a query");
    if (request->explore)
        TRY(check_explore(r, request, error));
    if (request->query && !query_vector)
        return error_set(error, AKIN_ARGUMENT, "a query needs a model to understand it: open one");
    for (size_t i = 0; query_vector && i < r->dimension; i++)
        if (!isfinite(query_vector[i]))
            return error_set(error, AKIN_ARGUMENT, "the vector of the query is not finite");
    return AKIN_OK;
}

/* ---- rows ------------------------------------------------------------------------------- */

static enum akin_status find_row(const struct recommender *r, const char *name, size_t *row,
                                 struct akin_error *error)
{
    if (catalog_find_id(r->catalog, name, row, NULL) == AKIN_OK)
        return AKIN_OK;
    return catalog_find(r->catalog, name, row, error);
}

static enum akin_status push(uint32_t **rows, size_t *count, size_t *capacity, size_t row,
                             struct akin_error *error)
{
    if (!array_reserve((void **)rows, capacity, *count + 1, sizeof **rows))
        return error_memory(error);
    (*rows)[(*count)++] = (uint32_t)row;
    return AKIN_OK;
}

/* Many at once: who rated a lot asks a lot. */
static enum akin_status push_rated(uint32_t **rows, size_t *count, size_t *capacity,
                                   const struct akin_rating *rated, size_t rated_count,
                                   struct akin_error *error)
{
    if (!array_reserve((void **)rows, capacity, *count + rated_count, sizeof **rows))
        return error_memory(error);
    uint32_t *to = *rows + *count;
    for (size_t i = 0; i < rated_count; i++)
        to[i] = rated[i].row;
    *count += rated_count;
    return AKIN_OK;
}

static enum akin_status skip_row(struct scratch *s, size_t row, struct akin_error *error)
{
    return push(&s->skip, &s->skip_count, &s->skip_capacity, row, error);
}

static enum akin_status name_rows(struct asked *a, struct akin_error *error)
{
    const struct akin_request *request = a->request;
    struct scratch *s = a->s;
    size_t row;
    for (size_t i = 0; i < request->history_count + request->exclude_count; i++) {
        bool past = i < request->history_count;
        size_t at = past ? i : i - request->history_count;
        const char *name = past ? request->history[at] : request->exclude[at];
        enum akin_status status = find_row(a->r, name, &row, error);
        if (status != AKIN_OK)
            return error_context(error, status, "%s, item %zu", past ? "history" : "exclude",
                                 at + 1);
        if (past)
            TRY(push(&s->history, &s->history_count, &s->history_capacity, row, error));
        if (!past || !request->include_seen)
            TRY(skip_row(s, row, error));
    }
    if (!request->similar)
        return AKIN_OK;
    TRY(find_row(a->r, request->similar, &a->row, error));
    return skip_row(s, a->row, error);
}

/* ---- people ----------------------------------------------------------------------------- */

/* What is known of a user: the profile, and what was rated before the import. */
struct known {
    const float *published;     /* the catalogue's vector; NULL: none */
    const struct akin_rating *rated;
    size_t count;
};

static void remember(struct user_profile *p, const struct akin_rating *rating)
{
    if (p->recent_count == USER_RECENT)
        memmove(p->recent, p->recent + 1, --p->recent_count * sizeof *p->recent);
    p->recent[p->recent_count++] = *rating;
}

static void clear(struct user_profile *p)
{
    memset(p->fast, 0, p->dim * sizeof *p->fast);
    memset(p->slow, 0, p->dim * sizeof *p->slow);
    p->count = p->live = 0;
    p->recent_count = p->seen_count = 0;
}

static struct user_fold fold_over(const struct recommender *r, const float *vectors)
{
    struct akin_recommender_settings rates;
    users_settings_default(&rates);
    if (r->users)
        users_rates(r->users, &rates.fast_rate, &rates.slow_rate);
    return (struct user_fold){ .kernels = cpu_kernels(r->backend), .vectors = vectors,
                               .dim = r->dimension, .items = r->items, .fast = rates.fast_rate,
                               .slow = rates.slow_rate };
}

static void take_step(const struct user_fold *fold, struct user_profile *p,
                      const struct akin_rating *rating)
{
    user_fold_step(fold, p->fast, p->slow, ++p->count, rating);
    remember(p, rating);
}

static enum akin_status read_user(struct asked *a, struct known *known, struct akin_error *error)
{
    const struct recommender *r = a->r;
    struct user_profile *p = &a->s->profile;
    size_t user;
    if (r->users)
        TRY(users_read(r->users, a->request->user, p, error));
    if (catalog_find_user(r->catalog, a->request->user, &user, NULL) != AKIN_OK)
        return AKIN_OK;
    known->published = catalog_user_vector(r->catalog, user);
    known->rated = catalog_user_ratings(r->catalog, user, &known->count);
    if (r->users)
        return AKIN_OK;
    struct user_fold fold = fold_over(r, a->space->vectors);
    float scale = (float)(1 / catalog_rating_max(r->catalog));
    for (size_t i = 0; i < known->count; i++) {
        struct akin_rating rating = known->rated[i];
        rating.rating *= scale;
        take_step(&fold, p, &rating);
    }
    return AKIN_OK;
}

/* By published vectors a user is what the catalogue says, or his last ratings and the history. */
static void fold_published(struct asked *a, const struct known *known)
{
    struct scratch *s = a->s;
    struct user_profile *p = &s->profile;
    if (!p->live && !s->history_count && known->published) {
        memcpy(s->user, known->published, a->r->dimension * sizeof *s->user);
        a->has_user = true;
        return;
    }
    struct user_fold fold = fold_over(a->r, a->r->vectors);
    memset(p->fast, 0, p->dim * sizeof *p->fast);
    memset(p->slow, 0, p->dim * sizeof *p->slow);
    for (size_t i = 0; i < p->recent_count; i++)
        user_fold_step(&fold, p->fast, p->slow, i + 1, &p->recent[i]);
    memcpy(s->user, p->fast, a->r->dimension * sizeof *s->user);
    for (size_t i = 0; i < a->r->dimension; i++)    /* ratings of 0 leave nothing */
        a->has_user |= s->user[i] < 0 || s->user[i] > 0;
}

/* Adds a vector at length 1; false: there is none. */
static bool add_half(float *sum, const float *x, const struct kernels *k, size_t dim)
{
    float squares;
    k->score_dot_f32(&squares, x, 1, &x, 1, dim);
    if (!(squares > 0) || !isfinite(squares))
        return false;
    k->blend_f32(sum, 1, x, 1 / sqrtf(squares), dim);
    return true;
}

/* Both vectors while a session goes on; of who comes back the slow one (docs/evaluation.md). */
static void join_profile(struct asked *a)
{
    const struct kernels *k = cpu_kernels(a->r->backend);
    struct scratch *s = a->s;
    memset(s->user, 0, a->r->dimension * sizeof *s->user);
    bool fast = !a->returning && add_half(s->user, s->profile.fast, k, a->r->dimension);
    bool slow = add_half(s->user, s->profile.slow, k, a->r->dimension);
    a->has_user = fast || slow;
}

static enum akin_status remember_past(struct asked *a, const struct known *known,
                                      struct akin_error *error)
{
    struct scratch *s = a->s;
    const struct user_profile *p = &s->profile;
    size_t live = p->live < p->recent_count ? (size_t)p->live : p->recent_count;
    int64_t last = p->recent_count ? p->recent[p->recent_count - 1].timestamp : 0;
    int64_t now = a->request->now ? a->request->now : clock_unix_seconds();
    TRY(push_rated(&s->past, &s->past_count, &s->past_capacity, known->rated, known->count,
                   error));
    TRY(push_rated(&s->past, &s->past_count, &s->past_capacity, p->recent + p->recent_count - live,
                   live, error));
    for (size_t i = 0; i < s->history_count; i++)
        TRY(push(&s->past, &s->past_count, &s->past_capacity, s->history[i], error));
    a->returning = s->past_count && !s->history_count && now - last > SESSION_SECONDS;
    for (size_t i = 0; i < s->past_count && i < PAST_MAX; i++) {
        a->past.rows[i] = s->past[s->past_count - 1 - i];
        a->past.weights[i] = past_weight(i);
        a->past.count = i + 1;
    }
    return AKIN_OK;
}

static enum akin_status resolve_person(struct asked *a, struct akin_error *error)
{
    struct scratch *s = a->s;
    struct user_profile *p = &s->profile;
    struct known known = { 0 };
    if (!a->request->user || !a->r->users)
        clear(p);
    if (a->request->user)
        TRY(read_user(a, &known, error));
    if (!a->request->include_seen)
        TRY(push_rated(&s->skip, &s->skip_count, &s->skip_capacity, known.rated, known.count,
                       error));
    for (size_t i = 0; i < p->seen_count && !a->request->include_seen; i++)
        TRY(skip_row(s, p->seen[i], error));
    TRY(remember_past(a, &known, error));
    struct user_fold fold = fold_over(a->r, a->space->vectors);
    for (size_t i = 0; i < s->history_count; i++) {
        struct akin_rating liked = { s->history[i], 1, 0 };
        take_step(&fold, p, &liked);
    }
    if (a->blend)
        join_profile(a);
    else
        fold_published(a, &known);
    return AKIN_OK;
}

/* ---- what it is ranked by --------------------------------------------------------------- */

bool request_by_parts(const struct akin_request *request, const struct recommend_inputs *inputs)
{
    return request->ranking == AKIN_RANK_PARTS ||
           (request->ranking == AKIN_RANK_AUTO &&
            (request->user || request->history_count || request->context ||
             request->popularity > 0 || inputs->fitted));
}

/* And what that needs: words or an item alone, by vectors, do without the space. */
static enum akin_status choose_ranking(struct asked *a, struct akin_error *error)
{
    const struct akin_request *request = a->request;
    a->personal = request->user || request->history_count;
    if (request->ranking != AKIN_RANK_VECTORS)
        TRY(recommender_inputs(a->r, &a->inputs, error));
    a->blend = request_by_parts(request, a->inputs);
    return a->blend || a->personal ? recommender_space(a->r, &a->space, error) : AKIN_OK;
}

/* ---- all names -------------------------------------------------------------------------- */

enum akin_status request_resolve(struct asked *a, const float *query_vector,
                                 struct akin_error *error)
{
    const struct akin_request *request = a->request;
    const struct recommender *r = a->r;
    struct scratch *s = a->s;
    s->skip_count = s->history_count = s->past_count = 0;
    if (request->context) {
        TRY(context_parse(request->context, &a->context, error));
        TRY(context_check(&a->context, r->catalog, error));
    }
    TRY(choose_ranking(a, error));
    TRY(name_rows(a, error));
    if (a->personal)
        TRY(resolve_person(a, error));
    a->alone = a->blend && request->similar && !a->personal && !request->query;
    size_t bytes = r->dimension * sizeof(float);
    if (request->similar && a->alone) {
        a->has_item = space_item(a->space, r->backend, a->row, s->item);
    } else if (request->similar) {
        const float *from = a->blend ? a->space->vectors : r->vectors;
        memcpy(s->item, from + a->row * r->dimension, bytes);
        a->has_item = !a->blend || a->space->inverse[a->row] > 0;
    }
    if (request->query && a->on_card) {
        a->has_query = true;
    } else if (request->query && a->blend) {
        a->has_query = space_map(a->space, r->backend, query_vector, s->query);
    } else if (request->query) {
        memcpy(s->query, query_vector, bytes);
        a->has_query = true;
    }
    if (request->query && !a->has_query)
        return error_set(error, AKIN_ARGUMENT, "the vector of the query is zero or nothing but the "
                         "mean of the catalogue: it points nowhere");
    return AKIN_OK;
}

/* ---- one vector ------------------------------------------------------------------------- */

/* sum [dimension] += weight * x / |x| */
static enum akin_status add_unit(double *sum, const float *x, size_t dimension, double weight,
                                 const char *what, struct akin_error *error)
{
    double squares = 0;
    for (size_t i = 0; i < dimension; i++)
        squares += (double)x[i] * x[i];
    if (!(squares > 0) || !isfinite(squares))
        return error_set(error, AKIN_ARGUMENT, "the vector of the %s is %s: it points nowhere",
                         what, squares == 0 ? "zero" : "not finite");
    double scale = weight / sqrt(squares);
    for (size_t i = 0; i < dimension; i++)
        sum[i] += scale * x[i];
    return AKIN_OK;
}

enum akin_status request_fuse(struct asked *a, struct akin_error *error)
{
    struct scratch *s = a->s;
    size_t dim = a->r->dimension;
    a->points = a->has_item || a->has_user || a->has_query;
    if (!a->points && !a->blend)
        return error_set(error, AKIN_NOT_FOUND, "user %.200s has no vector, having rated nothing: "
                         "ask for something else as well, or by parts", a->request->user);
    if (!a->points)
        return AKIN_OK;
    if (a->has_item && !a->has_user && !a->has_query) {
        memcpy(s->vector, s->item, dim * sizeof *s->vector);
        return AKIN_OK;
    }
    double others = (double)a->has_item + (double)a->has_user, squares = 0;
    double weight = others == 0 ? 1 : a->has_query ? (double)request_query_weight(a) : 0;
    memset(s->sum, 0, dim * sizeof *s->sum);
    if (a->has_query)
        TRY(add_unit(s->sum, s->query, dim, weight, "query", error));
    if (a->has_item)
        TRY(add_unit(s->sum, s->item, dim, (1 - weight) / others, "item", error));
    if (a->has_user)
        TRY(add_unit(s->sum, s->user, dim, (1 - weight) / others, "user", error));
    for (size_t i = 0; i < dim; i++)
        squares += s->sum[i] * s->sum[i];
    if (!(squares > 1e-12))
        return error_set(error, AKIN_ARGUMENT,
                         "what is asked for cancels out: ask for less at once");
    for (size_t i = 0; i < dim; i++)
        s->vector[i] = (float)(s->sum[i] / sqrt(squares));
    return AKIN_OK;
}

/* ---- who may be found ------------------------------------------------------------------- */

void request_allow(struct asked *a, const uint64_t *filtered)
{
    struct scratch *s = a->s;
    size_t items = a->r->items, words = filter_words(items);
    for (size_t w = 0; w < words; w++)
        s->allowed[w] = filtered ? filtered[w] : ~0ull;
    if (items % 64)
        s->allowed[words - 1] &= ~0ull >> (64 - items % 64);
    for (size_t i = 0; i < s->skip_count; i++)
        s->allowed[s->skip[i] / 64] &= ~(1ull << s->skip[i] % 64);
    s->allowed_count = 0;
    for (size_t w = 0; w < words; w++)
        s->allowed_count += (size_t)__builtin_popcountll(s->allowed[w]);
}
