/* See personal.h. */
#include "recommend/personal.h"

#include <stdatomic.h>

#include "base/memory.h"
#include "index/filter.h"
#include "recommend/personal_taste.h"

struct personal_card {
    const struct personal_device_ops *ops;
    struct personal_device *device;     /* under the lock */
    struct mutex *lock;
    atomic_bool works, untold;  /* untold: it failed, and nobody heard of it; */
    struct akin_error why;      /* under the lock */
    bool moods[PERSONAL_MOODS]; /* that it knows */
    const struct speaker *speaker;
};

/* ---- create and destroy ----------------------------------------------------------------- */

enum akin_status personal_card_create(const struct personal_source *source,
                                      struct personal_card **card, struct akin_error *error)
{
    const struct space *space = source->space;
    size_t popular = space->items < REQUEST_POPULAR_MAX ? space->items : REQUEST_POPULAR_MAX;
    struct personal_card *c = memory_alloc(1, sizeof *c);
    uint64_t *texted = memory_alloc(filter_words(space->items) + 1, sizeof *texted);
    struct personal_model model = { .made = NULL };
    enum akin_status status = AKIN_OK;
    if (!c || !texted || !(c->lock = mutex_create()))
        TRY_DONE(error_memory(error));
    for (size_t row = 0; row < space->items; row++)
        texted[row / 64] |= (uint64_t)(space->inverse[row] > 0) << row % 64;
    struct personal_items items = {
        .mean = space->mean, .texted = texted, .similar = *source->similar,
        .popularity = source->popularity, .by_popularity = source->by_popularity,
        .popular_count = popular,
    };
    c->ops = source->ops;
    c->speaker = source->speaker;
    if (source->speaker) {
        TRY_DONE(personal_model_make(source->speaker, &model, error));
        items.taste = &model.taste;
    }
    for (int mood = 0; mood < PERSONAL_MOODS; mood++)
        c->moods[mood] = model.taste.moods[mood].standing != NULL;
    TRY_DONE(c->ops->create(source->ordinal, source->rows, &items, &c->device, error));
    atomic_store(&c->works, true);
    *card = c;
done:
    memory_free(texted);
    personal_model_deinit(&model);
    if (status != AKIN_OK)
        personal_card_destroy(&c);
    return status;
}

void personal_card_destroy(struct personal_card **card)
{
    struct personal_card *c = *card;
    if (!c)
        return;
    if (c->device)
        c->ops->destroy(&c->device);
    mutex_destroy(&c->lock);
    memory_free(c);
    *card = NULL;
}

bool personal_card_failed(struct personal_card *card, struct akin_error *why)
{
    if (!card || !atomic_load(&card->untold) || !atomic_exchange(&card->untold, false))
        return false;
    mutex_lock(card->lock);
    *why = card->why;
    mutex_unlock(card->lock);
    return true;
}

bool personal_card_works(const struct personal_card *card)
{
    return card && atomic_load(&card->works);
}

/* ---- requests --------------------------------------------------------------------------- */

bool personal_takes(const struct recommender *r, const struct akin_request *q)
{
    const struct recommend_inputs *inputs;
    bool personal = q->user || q->history_count;
    if (!personal_card_works(r->card) || r->rescorer.rescore || q->k == 0 ||
        q->k > PERSONAL_K_MAX || q->similar || q->context || q->explore || q->diversity > 0 ||
        q->no_near_duplicates || !(personal || q->query) || q->ranking == AKIN_RANK_VECTORS ||
        recommender_inputs(r, &inputs, NULL) != AKIN_OK)
        return false;
    return request_by_parts(q, inputs) && !(personal && inputs->graph && !q->query);
}

/* What is known of the past, to the scratch's places. */
static bool ask_mood(const struct asked *a, struct personal_request *out)
{
    const struct personal_card *card = a->r->card;
    struct scratch *s = a->s;
    size_t first = s->past_count > 0 ? s->past_count : 0, count = 0;
    if (!card->moods[a->returning] ||
        !array_reserve((void **)&s->places, &s->place_capacity, PERSONAL_HISTORY_MAX,
                       sizeof *s->places))
        return false;
    const uint32_t *places = speaker_taste(card->speaker)->places;
    while (first > 0 && count < PERSONAL_HISTORY_MAX)
        count += places[s->past[--first]] != UINT32_MAX;
    out->history_count = count;
    count = 0;
    for (; first < s->past_count; first++)
        if (places[s->past[first]] != UINT32_MAX)
            s->places[count++] = places[s->past[first]];
    out->history = s->places;
    out->mood = a->returning;
    out->told_text = REQUEST_PERSON_TEXT;
    out->past_count = 0;
    return true;
}

bool personal_ask(struct asked *a, const float *query_vector, size_t passing,
                  struct personal_request *out)
{
    const struct scratch *s = a->s;
    if (passing < s->skip_count || passing - s->skip_count <= 2 * request_offers(a->request->k))
        return false;
    a->points = a->has_user || a->has_query;
    request_weigh(a);
    *out = (struct personal_request){
        .query = a->has_query ? query_vector : NULL, .person = a->has_user ? s->user : NULL,
        .share = request_query_weight(a), .past = a->past.rows, .past_weights = a->past.weights,
        .past_count = a->past.count, .skip = s->skip, .skip_count = s->skip_count,
        .mask = UINT32_MAX, .text = a->weights[PART_TEXT], .taste = a->weights[PART_TASTE],
        .popularity = a->weights[PART_POPULARITY], .mood = PERSONAL_NO_MOOD,
    };
    return !(a->past.count && a->inputs->speaker) || ask_mood(a, out);
}

static void fill(const struct personal_result *from, size_t count,
                 struct akin_recommendation *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (struct akin_recommendation){
            .row = from[i].row, .similarity = from[i].similarity, .score = from[i].score,
            .parts = { .text = from[i].text, .taste = from[i].taste,
                       .popularity = from[i].popularity },
        };
}

/* What fails for lack of kernels is not for the card; what fails otherwise, it has failed at. */
static bool went_well(struct personal_card *card, enum akin_status status)
{
    if (status == AKIN_OK || status == AKIN_UNSUPPORTED)
        return status == AKIN_OK;
    atomic_store(&card->works, false);
    atomic_store(&card->untold, true);
    return false;
}

bool personal_answer(struct personal_card *card, const struct personal_call *call)
{
    struct personal_batch batch = {
        .requests = call->requests, .count = call->count, .k = call->k,
        .text_offers = request_text_offers(call->k), .offers = request_offers(call->k),
        .masks = call->masks, .mask_count = call->mask_count,
    };
    struct personal_result few[PERSONAL_K_MAX];
    struct personal_result *results =
        call->count == 1 ? few : memory_alloc(call->count, call->k * sizeof *results);
    bool well = false;
    if (!results)
        return false;
    mutex_lock(card->lock);
    if (atomic_load(&card->works))
        well = went_well(card, card->ops->answer(card->device, &batch, results, call->found,
                                                 &card->why));
    mutex_unlock(card->lock);
    for (size_t q = 0; well && q < call->count; q++)
        if (call->found[q] != PERSONAL_NOWHERE)
            fill(results + q * call->k, call->found[q], call->results[q]);
    if (results != few)
        memory_free(results);
    return well;
}

bool personal_nearest(struct personal_card *card, const float *vectors, size_t count, size_t k,
                      const uint64_t *mask, struct hit *hits, size_t *found)
{
    bool well = false;
    mutex_lock(card->lock);
    if (atomic_load(&card->works))
        well = went_well(card, card->ops->nearest(card->device, vectors, count, k, mask, hits,
                                                  found, &card->why));
    mutex_unlock(card->lock);
    return well;
}
