/* See personal.h. */
#include "recommend/personal.h"

#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "index/filter.h"
#include "recommend/personal_taste.h"

_Static_assert((int)PAST_MAX <= (int)PERSONAL_PAST_MAX, "a past has room");

/* Numbers of a request's lists that a room is made for, to begin with and at most: one person who
 * rated everything does not make every room large. Who needs more gets it in a second turn. */
enum { LISTED = 256, LISTED_MAX = 8192 };

struct personal_card {
    const struct personal_device_ops *ops;
    struct personal_device *device;     /* under the lock */
    struct mutex *lock, *rooming;
    struct card_room *idle;     /* under `rooming` */
    atomic_size_t listed;
    atomic_bool works, untold;  /* untold: it failed, and nobody heard of it; */
    struct akin_error why;      /* under the lock */
    bool moods[PERSONAL_MOODS]; /* that it knows */
    const struct speaker *speaker;
    size_t dim;
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
    if (!c || !texted || !(c->lock = mutex_create()) || !(c->rooming = mutex_create()))
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
    c->dim = space->dim;
    atomic_init(&c->listed, LISTED);
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
    while (c->idle) {
        struct card_room *room = c->idle;
        c->idle = room->next;
        c->ops->release(c->device, &room->room);
        memory_free(room);
    }
    if (c->device)
        c->ops->destroy(&c->device);
    mutex_destroy(&c->lock);
    mutex_destroy(&c->rooming);
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

bool personal_takes(const struct recommender *r, const struct recommend_inputs *inputs,
                    const struct akin_request *q)
{
    bool personal = q->user || q->history_count;
    if (!personal_card_works(r->card) || r->rescorer.rescore || q->k == 0 ||
        q->k > PERSONAL_K_MAX || q->similar || q->context || q->explore || q->diversity > 0 ||
        q->no_near_duplicates || !(personal || q->query) || q->ranking == AKIN_RANK_VECTORS)
        return false;
    return request_by_parts(q, inputs) && !(personal && inputs->graph && !q->query);
}

/* What is known of the past, to the scratch's places. */
static bool ask_mood(const struct asked *a, struct personal_asked *out)
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
    out->request.history_count = (uint32_t)count;
    count = 0;
    for (; first < s->past_count; first++)
        if (places[s->past[first]] != UINT32_MAX)
            s->places[count++] = places[s->past[first]];
    out->history = s->places;
    out->request.mood = a->returning;
    out->request.told_text = REQUEST_PERSON_TEXT;
    out->request.past_count = 0;
    return true;
}

bool personal_ask(struct asked *a, const float *query_vector, size_t passing,
                  struct personal_asked *out)
{
    const struct scratch *s = a->s;
    if (passing < s->skip_count || passing - s->skip_count <= 2 * request_offers(a->request->k) ||
        s->skip_count > PERSONAL_SKIP_MAX)
        return false;
    a->points = a->has_user || a->has_query;
    request_weigh(a);
    *out = (struct personal_asked){
        .request = {
            .share = request_query_weight(a), .past_count = (uint32_t)a->past.count,
            .skip_count = (uint32_t)s->skip_count, .mask = PERSONAL_NONE,
            .text = a->weights[PART_TEXT], .taste = a->weights[PART_TASTE],
            .popularity = a->weights[PART_POPULARITY], .mood = PERSONAL_NO_MOOD,
        },
        .query = a->has_query ? query_vector : NULL, .person = a->has_user ? s->user : NULL,
        .skip = s->skip,
    };
    memcpy(out->request.past, a->past.rows, a->past.count * sizeof *a->past.rows);
    memcpy(out->request.past_weights, a->past.weights, a->past.count * sizeof *a->past.weights);
    return !(a->past.count && a->inputs->speaker) || ask_mood(a, out);
}

/* ---- rooms ------------------------------------------------------------------------------ */

/* What fails for lack of kernels is not for the card; what fails otherwise, it has failed at. With
 * the lock held, which guards `why`. */
static bool went_well(struct personal_card *card, enum akin_status status)
{
    if (status == AKIN_OK || status == AKIN_UNSUPPORTED)
        return status == AKIN_OK;
    atomic_store(&card->works, false);
    atomic_store(&card->untold, true);
    return false;
}

/* One that has the memory, or any, or NULL. */
static struct card_room *take_idle(struct personal_card *card, const struct personal_sizes *sizes,
                                   bool *fits)
{
    struct card_room **at;
    mutex_lock(card->rooming);
    for (at = &card->idle; *at; at = &(*at)->next)
        if ((*fits = card->ops->lay_out(card->device, sizes, &(*at)->room)))
            break;
    if (!*at)
        at = &card->idle;
    struct card_room *room = *at;
    if (room)
        *at = room->next;
    mutex_unlock(card->rooming);
    return room;
}

struct card_room *personal_take_room(struct personal_card *card,
                                     const struct personal_sizes *sizes)
{
    bool fits = false;
    struct card_room *room = take_idle(card, sizes, &fits);
    if (!room)
        room = memory_alloc(1, sizeof *room);
    if (!room || fits)
        return room;
    mutex_lock(card->lock);
    if (atomic_load(&card->works))
        fits = went_well(card, card->ops->reserve(card->device, sizes, &room->room, &card->why));
    mutex_unlock(card->lock);
    if (fits)
        return room;
    personal_give_room(card, room);
    return NULL;
}

void personal_give_room(struct personal_card *card, struct card_room *room)
{
    mutex_lock(card->rooming);
    room->next = card->idle;
    card->idle = room;
    mutex_unlock(card->rooming);
}

size_t personal_listed(const struct personal_card *card)
{
    return atomic_load(&card->listed);
}

void personal_note_listed(struct personal_card *card, size_t listed)
{
    size_t most = atomic_load(&card->listed);
    listed = listed < LISTED_MAX ? listed : LISTED_MAX;
    while (listed > most && !atomic_compare_exchange_weak(&card->listed, &most, listed))
        continue;
}

/* ---- calls ------------------------------------------------------------------------------ */

static uint32_t write_vector(const struct personal_card *card, struct card_room *room, size_t *at,
                             const float *vector)
{
    if (!vector)
        return PERSONAL_NONE;
    memcpy(room->room.vectors + *at * card->dim, vector, card->dim * sizeof *vector);
    return (uint32_t)(*at)++;
}

static uint32_t write_list(struct card_room *room, size_t *at, const uint32_t *from, size_t count)
{
    uint32_t first = (uint32_t)*at;
    if (count)
        memcpy(room->room.lists + *at, from, count * sizeof *from);
    *at += count;
    return first;
}

bool personal_write(struct personal_card *card, struct card_room *room,
                    const struct personal_place *place, const struct personal_asked *asked)
{
    struct personal_request *to = &room->room.requests[place->number];
    size_t vector = place->vector, list = place->list;
    struct akin_error why;
    *to = asked->request;
    to->query = write_vector(card, room, &vector, asked->query);
    to->person = write_vector(card, room, &vector, asked->person);
    to->skip_first = write_list(room, &list, asked->skip, to->skip_count);
    to->history_first = write_list(room, &list, asked->history, to->history_count);
    enum akin_status status =
        card->ops->check(card->device, &room->room, place->number, place->mask_count, &why);
    if (status == AKIN_OK)
        return true;
    mutex_lock(card->lock);
    if (status != AKIN_UNSUPPORTED)
        card->why = why;
    went_well(card, status);
    mutex_unlock(card->lock);
    return false;
}

bool personal_answer(struct personal_card *card, const struct personal_call *call,
                     struct card_room *room)
{
    struct personal_batch batch = {
        .count = call->count, .k = call->k, .lists = call->lists,
        .text_offers = request_text_offers(call->k), .offers = request_offers(call->k),
        .masks = call->masks, .mask_count = call->mask_count,
    };
    bool well = false;
    mutex_lock(card->lock);
    if (atomic_load(&card->works))
        well = went_well(card, card->ops->answer(card->device, &batch, &room->room, &card->why));
    mutex_unlock(card->lock);
    return well;
}

size_t personal_results(const struct card_room *room, size_t number, size_t k,
                        struct akin_recommendation *results)
{
    const struct personal_result *from = room->room.results + number * k;
    size_t found = room->room.found[number];
    for (size_t i = 0; i < found && found != PERSONAL_NOWHERE; i++)
        results[i] = (struct akin_recommendation){
            .row = from[i].row, .similarity = from[i].similarity, .score = from[i].score,
            .parts = { .text = from[i].text, .taste = from[i].taste,
                       .popularity = from[i].popularity },
        };
    return found;
}

bool personal_answer_one(struct personal_card *card, struct personal_asked *asked,
                         const uint64_t *mask, size_t k, struct akin_recommendation *results,
                         size_t *found)
{
    struct personal_call call = { .count = 1, .k = k, .lists = personal_lists(asked),
                                  .masks = mask, .mask_count = mask ? 1 : 0 };
    const struct personal_sizes sizes = { .requests = 1, .vectors = 2, .lists = call.lists,
                                          .answers = k };
    const struct personal_place place = { .mask_count = call.mask_count };
    struct card_room *room = personal_take_room(card, &sizes);
    if (!room)
        return false;
    asked->request.mask = mask ? 0 : PERSONAL_NONE;
    bool well = personal_write(card, room, &place, asked) && personal_answer(card, &call, room);
    if (well)
        *found = personal_results(room, 0, k, results);
    personal_give_room(card, room);
    return well && *found != PERSONAL_NOWHERE;
}

bool personal_nearest(struct personal_card *card, size_t count, size_t k, const uint64_t *mask,
                      struct card_room *room)
{
    bool well = false;
    mutex_lock(card->lock);
    if (atomic_load(&card->works))
        well = went_well(card, card->ops->nearest(card->device, count, k, mask, &room->room,
                                                  &card->why));
    mutex_unlock(card->lock);
    return well;
}
