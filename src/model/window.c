/* See window.h. Everything here is sequential, and decides where and when a text is computed but no
 * bit of its vector. */
#include "model/window.h"

#include <stdlib.h>

#include "base/memory.h"

enum akin_status window_init(struct window *window, size_t rows_max, size_t tokens_max,
                             struct akin_error *error)
{
    size_t ids;
    *window = (struct window){ .rows_max = rows_max, .tokens_max = tokens_max };
    window->rows = memory_alloc(rows_max, sizeof *window->rows);
    window->repeats = memory_alloc(rows_max, sizeof *window->repeats);
    if (size_mul(rows_max, tokens_max, &ids))
        window->ids = memory_alloc_aligned(ids, sizeof *window->ids);
    return window->rows && window->repeats && window->ids ? AKIN_OK : error_memory(error);
}

void window_deinit(struct window *window)
{
    memory_free(window->rows);
    memory_free(window->repeats);
    memory_free(window->ids);
    memory_free(window->batches);
    *window = (struct window){ 0 };
}

enum akin_status window_fill(struct window *window, const struct akin_text *texts, size_t begin,
                             size_t count, struct string_map *seen, struct akin_error *error)
{
    size_t text = begin;
    window->row_count = window->repeat_count = window->batch_count = 0;
    for (; text < count && window->row_count < window->rows_max &&
           window->repeat_count < window->rows_max; text++) {
        uint64_t first = text;
        bool fresh = true;
        const char *bytes = texts[text].count ? texts[text].bytes : "";
        if (seen && !string_map_put(seen, bytes, texts[text].count, text, &first, &fresh))
            return error_memory(error);
        if (fresh) {
            struct window_row row = { .text = text, .slot = (uint32_t)window->row_count };
            window->rows[window->row_count++] = row;
        } else {
            window->repeats[window->repeat_count++] = (struct window_repeat){ text, first };
        }
    }
    window->begin = begin;
    window->end = text;
    /* room for a micro-batch of each row, so that cutting cannot fail */
    if (!array_reserve((void **)&window->batches, &window->batch_capacity, window->row_count,
                       sizeof *window->batches))
        return error_memory(error);
    return AKIN_OK;
}

uint32_t *window_ids(const struct window *window, const struct window_row *row)
{
    return window->ids + (size_t)row->slot * window->tokens_max;
}

/* Longest first: batches of equal shape, and the small ones fill the gaps at the end. */
static int compare_rows(const void *a, const void *b)
{
    const struct window_row *x = a, *y = b;
    if (x->tokens != y->tokens)
        return x->tokens > y->tokens ? -1 : 1;
    return (x->slot > y->slot) - (x->slot < y->slot);
}

/* A third of what is left, in a part for each thread, as in Polychronopoulos and Kuck, "Guided
 * self-scheduling" (1987), but for the third: threads may be three times as slow as others. */
static size_t guided(size_t left, size_t least, size_t threads)
{
    size_t part = left / (3 * threads);
    return part > least ? part : least;
}

void window_cut(struct window *window, size_t tokens, size_t least, size_t texts, size_t threads)
{
    size_t all = 0;
    for (size_t i = 0; i < window->row_count; i++)
        all += window->rows[i].tokens;
    /* a few texts are spread over the threads rather than put in one batch */
    size_t budget = (all + threads - 1) / threads;
    if (budget > tokens)
        budget = tokens;
    size_t most = budget, left = all;
    budget = guided(left, least, threads) < most ? guided(left, least, threads) : most;
    qsort(window->rows, window->row_count, sizeof *window->rows, compare_rows);
    struct micro_batch batch = { 0 };
    for (size_t i = 0; i < window->row_count; i++) {
        size_t held = i - batch.begin;
        if (held && (batch.tokens + window->rows[i].tokens > budget || held == texts)) {
            window->batches[window->batch_count++] = batch;
            left -= batch.tokens;
            budget = guided(left, least, threads) < most ? guided(left, least, threads) : most;
            batch = (struct micro_batch){ .begin = i };
        }
        batch.end = i + 1;
        batch.tokens += window->rows[i].tokens;
    }
    if (window->row_count)
        window->batches[window->batch_count++] = batch;
}
