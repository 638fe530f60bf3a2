/* See sample_order.h. */
#include "train/sample_order.h"

#include "base/memory.h"
#include "base/philox.h"
#include "base/rng.h"

enum {
    LANES = 8,
    CHUNK_BYTES = 1 << 20,      /* of tokens as int64, whatever they are stored as */
    WINDOW_CHUNKS = 2,
    CHUNKS_MAX = 1 << 20,       /* larger sets have larger chunks */
};

/* The random stream of one shuffle. */
static struct rng stream_of(const struct sample_order *order, uint32_t what, uint64_t number)
{
    struct rng rng;
    uint32_t key[2] = { (uint32_t)order->seed, (uint32_t)(order->seed >> 32) }, random[4];
    uint32_t counter[4] = { (uint32_t)number, (uint32_t)(number >> 32), 0x4f524452u + what,
                            order->epoch };
    philox_4x32(counter, key, random);
    rng_seed(&rng, (uint64_t)random[1] << 32 | random[0]);
    return rng;
}

enum akin_status sample_order_init(struct sample_order *order, struct akin_error *error)
{
    uint64_t count = order->sample_count, chunk = CHUNK_BYTES / (2 * 8 * order->seq_len);
    chunk = chunk ? chunk : 1;
    order->lanes = order->shuffle && LANES % order->world == 0 ? LANES : order->world;
    order->lanes_mine = order->lanes / order->world;
    order->blocks = order->lanes == LANES && order->shuffle && order->batch > 0
                    && order->batch % order->lanes_mine == 0;
    order->lane_samples = count / order->lanes;
    order->rank_samples = count / order->world;
    order->window_samples = (size_t)(chunk * WINDOW_CHUNKS);
    if (order->window_samples > order->lane_samples)
        order->window_samples = order->lane_samples ? (size_t)order->lane_samples : 1;
    uint64_t full = (order->lane_samples + order->window_samples - 1) / order->window_samples;
    order->windows = full + (order->rank_samples > order->lane_samples * order->lanes_mine);
    uint64_t least = (count - 1) / CHUNKS_MAX + 1;
    order->chunk_samples = chunk > least ? chunk : least;
    order->chunk_count = (size_t)((count - 1) / order->chunk_samples + 1);
    order->chunks = memory_alloc(order->chunk_count, sizeof *order->chunks);
    if (!order->chunks)
        return error_memory(error);
    sample_order_epoch(order, 0);
    return AKIN_OK;
}

void sample_order_deinit(struct sample_order *order)
{
    memory_free(order->chunks);
    order->chunks = NULL;
}

void sample_order_epoch(struct sample_order *order, uint32_t epoch)
{
    order->epoch = epoch;
    for (size_t i = 0; i < order->chunk_count; i++)
        order->chunks[i] = (uint32_t)i;
    if (order->shuffle) {
        struct rng rng = stream_of(order, 0, 0);
        rng_shuffle(&rng, order->chunks, order->chunk_count);
    }
    for (size_t i = 0; i < order->chunk_count; i++)
        if (order->chunks[i] == order->chunk_count - 1)
            order->short_at = i;
}

/* The sample at a place in the row of chunks, and how many follow it in its chunk, it included. */
static uint64_t sample_at(const struct sample_order *order, uint64_t place, uint64_t *left)
{
    uint64_t chunk = order->chunk_samples, before = order->short_at * chunk;
    uint64_t last = order->sample_count - (order->chunk_count - 1) * chunk, at, offset;
    uint64_t size = chunk;
    if (place < before) {
        at = place / chunk;
        offset = place % chunk;
    } else if (place < before + last) {
        at = order->short_at;
        offset = place - before;
        size = last;
    } else {
        place -= before + last;
        at = order->short_at + 1 + place / chunk;
        offset = place % chunk;
    }
    *left = size - offset;
    return order->chunks[at] * chunk + offset;
}

static void add_run(struct order_part *out, uint64_t first, size_t count)
{
    struct order_run *last = &out->runs[out->run_count ? out->run_count - 1 : 0];
    if (out->run_count && last->first + last->count == first) {
        last->count += count;
        return;
    }
    ASSERT(out->run_count < ORDER_RUNS_MAX);
    out->runs[out->run_count++] = (struct order_run){ first, count };
}

static bool is_rest(const struct sample_order *order, uint64_t window)
{
    return window * order->window_samples >= order->lane_samples;
}

static size_t lane_rows(const struct sample_order *order, uint64_t window)
{
    uint64_t left = order->lane_samples - window * order->window_samples;
    return left < order->window_samples ? (size_t)left : order->window_samples;
}

size_t order_window_rows(const struct sample_order *order, uint64_t window)
{
    if (is_rest(order, window))
        return (size_t)(order->rank_samples - order->lane_samples * order->lanes_mine);
    return lane_rows(order, window) * order->lanes_mine;
}

size_t order_rows_max(const struct sample_order *order)
{
    return order->window_samples * order->lanes_mine;
}

size_t order_window_parts(const struct sample_order *order, uint64_t window)
{
    return is_rest(order, window) ? 1 : order->lanes_mine;
}

size_t order_part_rows_max(const struct sample_order *order)
{
    return order->window_samples > LANES ? order->window_samples : LANES;
}

void order_part(const struct sample_order *order, uint64_t window, size_t part,
                struct order_part *out)
{
    uint64_t left;
    out->run_count = 0;
    if (is_rest(order, window)) {
        uint64_t place = order->lane_samples * order->lanes + order->rank;
        size_t rows = order_window_rows(order, window);
        for (size_t row = 0; row < rows; row++, place += order->world) {
            add_run(out, sample_at(order, place, &left), 1);
            out->rows[row] = (uint32_t)row;
        }
        return;
    }
    size_t rows = lane_rows(order, window);
    size_t lane = order->blocks ? order->rank * order->lanes_mine + part
                                : order->rank + order->world * part;
    uint64_t place = lane * order->lane_samples + window * order->window_samples;
    for (size_t done = 0; done < rows;) {
        uint64_t first = sample_at(order, place + done, &left);
        size_t count = left < rows - done ? (size_t)left : rows - done;
        add_run(out, first, count);
        done += count;
    }
    for (size_t row = 0; row < rows; row++)
        out->rows[row] = (uint32_t)row;
    if (order->shuffle) {
        struct rng rng = stream_of(order, 1 + (uint32_t)lane, window);
        rng_shuffle(&rng, out->rows, rows);
    }
    for (size_t row = 0; row < rows; row++)
        out->rows[row] = out->rows[row] * (uint32_t)order->lanes_mine + (uint32_t)part;
}
