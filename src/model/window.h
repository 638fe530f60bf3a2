/* Some of the texts of a call, on their way to vectors: which are computed and which repeat an
 * earlier one, their token ids, and the micro-batches that they are cut into. */
#pragma once

#include "akin/model.h"
#include "base/hash.h"

/* A text that is computed. */
struct window_row {
    size_t text;                /* its number in the call */
    uint32_t slot;              /* of its ids */
    uint32_t tokens;            /* at most tokens_max */
};

/* A text that equals an earlier one. */
struct window_repeat {
    size_t text, first;
};

struct micro_batch {
    size_t begin, end;          /* of rows */
    size_t tokens;
};

struct window {
    size_t rows_max, tokens_max;
    size_t begin, end;          /* texts */
    struct window_row *rows;    /* [rows_max] */
    size_t row_count;
    struct window_repeat *repeats;  /* [rows_max] */
    size_t repeat_count;
    uint32_t *ids;              /* [rows_max][tokens_max], by slot */
    struct micro_batch *batches;
    size_t batch_count, batch_capacity;
};

enum akin_status window_init(struct window *window, size_t rows_max, size_t tokens_max,
                             struct akin_error *error);
void window_deinit(struct window *window);

/* Takes the texts from `begin` on until it is full. `seen` (NULL: equal texts are computed again)
 * maps texts to their first numbers, over all windows of a call. */
enum akin_status window_fill(struct window *window, const struct akin_text *texts, size_t begin,
                             size_t count, struct string_map *seen, struct akin_error *error);

uint32_t *window_ids(const struct window *window, const struct window_row *row);

/* Sorts the rows, whose tokens are there now, and cuts them into micro-batches of at most
 * `tokens` tokens (or one text) and `texts` texts (0: any number), such that `threads` threads have
 * something to do. The last ones become smaller and smaller, down to `least` tokens (`tokens`: they
 * do not), so that threads of unequal speed that take one after the other end together. */
void window_cut(struct window *window, size_t tokens, size_t least, size_t texts, size_t threads);
