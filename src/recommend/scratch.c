/* See request.h: buffers of a request, whose sizes are those of the catalogue or grow to what was
 * needed once. */
#include "base/memory.h"
#include "index/filter.h"
#include "recommend/request.h"

void scratch_free(struct scratch *s)
{
    if (!s)
        return;
    user_profile_deinit(&s->profile);
    memory_free(s->skip);
    memory_free(s->history);
    memory_free(s->past);
    speech_deinit(&s->speech);
    graph_person_deinit(&s->graph);
    memory_free(s->allowed);
    memory_free(s->sum);
    memory_free(s->vector);
    memory_free(s->year_terms);
    gather_deinit(&s->title);
    gather_deinit(&s->taste);
    gather_deinit(&s->counting);
    memory_free(s->slots);
    memory_free(s->candidates);
    memory_free(s->hits);
    memory_free(s->marks);
    memory_free(s->places);
    memory_free(s);
}

static struct scratch *make(const struct recommender *r)
{
    struct scratch *s = memory_alloc(1, sizeof *s);
    size_t dim = (r->dimension + 15) / 16 * 16;
    if (!s)
        return NULL;
    s->allowed = memory_alloc(filter_words(r->items) + 1, sizeof *s->allowed);
    s->sum = memory_alloc(dim, sizeof *s->sum);
    s->vector = memory_alloc_aligned(4 * dim, sizeof *s->vector);
    s->slots = memory_alloc(r->items + 1, sizeof *s->slots);
    if (!user_profile_init(&s->profile, r->dimension) || !s->allowed || !s->sum || !s->vector ||
        !s->slots || !gather_init(&s->title, r->items) ||
        !gather_init(&s->taste, r->items) || !gather_init(&s->counting, r->items)) {
        scratch_free(s);
        return NULL;
    }
    s->item = s->vector + dim;
    s->user = s->vector + 2 * dim;
    s->query = s->vector + 3 * dim;
    return s;
}

struct scratch *scratch_take(const struct recommender *r)
{
    mutex_lock(r->shared->lock);
    struct scratch *s = r->shared->idle;
    if (s)
        r->shared->idle = s->next;
    mutex_unlock(r->shared->lock);
    return s ? s : make(r);
}

void scratch_give(const struct recommender *r, struct scratch *s)
{
    for (size_t i = 0; i < s->candidate_count; i++)
        s->slots[s->candidates[i].row] = 0;
    s->candidate_count = 0;
    gather_clear(&s->title);
    gather_clear(&s->taste);
    gather_clear(&s->counting);
    mutex_lock(r->shared->lock);
    s->next = r->shared->idle;
    r->shared->idle = s;
    mutex_unlock(r->shared->lock);
}
