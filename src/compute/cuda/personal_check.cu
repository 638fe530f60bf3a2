// Whether what a personal device is made of hangs together: its kernels do not look again.
#include <cstring>
#include <memory>
#include <new>

#include "compute/cuda/personal_cuda.cuh"

namespace {

enum akin_status check_similar(const struct item_rows *rows, size_t items,
                               struct akin_error *error)
{
    if (rows->items != items)
        return error_set(error, AKIN_ARGUMENT, "rows of %zu items for %zu items", rows->items,
                         items);
    // which row named an item last
    std::unique_ptr<uint32_t[]> last(new (std::nothrow) uint32_t[items]);
    if (!last)
        return error_memory(error);
    memset(last.get(), 0xff, items * sizeof last[0]);
    for (size_t row = 0; row < items; row++) {
        uint64_t begin = rows->starts[row], end = rows->starts[row + 1];
        if (end < begin || end - begin > PERSONAL_ROW_MAX)
            return error_set(error, AKIN_UNSUPPORTED, "row %zu of raters has %llu weights: on the "
                             "GPU there are at most %d; recommend on the CPU", row,
                             (unsigned long long)(end - begin), PERSONAL_ROW_MAX);
        for (uint64_t e = begin; e < end; e++) {
            const struct item_weight *entry = &rows->entries[e];
            if (!(entry->weight > 0))
                continue;
            if (entry->row >= items || last[entry->row] == row)
                return error_set(error, AKIN_ARGUMENT, "row %zu of raters names item %u, which %s",
                                 row, entry->row,
                                 entry->row >= items ? "is not there" : "is twice");
            last[entry->row] = (uint32_t)row;
        }
    }
    return AKIN_OK;
}

// Sums that a mood needs are there, and so is its sequence.
bool is_whole(const struct personal_taste *t)
{
    for (const personal_mood &mood : t->moods)
        for (int i = 0; mood.standing && i < PERSONAL_SUMS; i++) {
            bool asked = mood.sums[i] != 0 || (i == PERSONAL_EASE && mood.scaled != 0);
            if ((asked && !t->sums[i].rows) || (mood.sequence != 0 && !t->sequence.length))
                return false;
        }
    return true;
}

enum akin_status check_taste(const struct personal_taste *t, size_t rows, struct akin_error *error)
{
    const size_t pair = sizeof(float) + sizeof(uint16_t);
    bool fits = t->size <= PERSONAL_MODEL_MAX && t->sequence.dim <= PERSONAL_WIDTH_MAX;
    for (const personal_sum &sum : t->sums)
        fits = fits && (!sum.rows || (sum.width <= PERSONAL_ROW_MAX && sum.stride % 4 == 0 &&
                                      sum.stride >= sum.width * pair));
    if (!fits)
        return error_set(error, AKIN_UNSUPPORTED, "a model of taste of %zu items: on the GPU there "
                         "are at most %d, with rows of %d and sequences of %d; recommend on the "
                         "CPU", t->size, PERSONAL_MODEL_MAX, PERSONAL_ROW_MAX, PERSONAL_WIDTH_MAX);
    bool right = is_whole(t) && t->size <= rows;
    for (size_t i = 0; right && i < t->size; i++)
        right = t->items[i] < rows && t->places[t->items[i]] == i;
    for (size_t row = 0; right && row < rows; row++)
        right = t->places[row] == UINT32_MAX ||
                (t->places[row] < t->size && t->items[t->places[row]] == row);
    for (const personal_sum &sum : t->sums)
        for (size_t i = 0; right && sum.rows && i < t->size; i++) {
            const uint16_t *columns = reinterpret_cast<const uint16_t *>(
                sum.rows + i * sum.stride + sum.width * sizeof(float));
            for (size_t c = 0; c < sum.width; c++)
                right = right && columns[c] < t->size && (c == 0 || columns[c] > columns[c - 1]);
        }
    for (const personal_mood &mood : t->moods)
        for (size_t i = 0; right && mood.standing && i < rows - t->size; i++)
            right = mood.order[i] < rows && t->places[mood.order[i]] == UINT32_MAX;
    return right ? AKIN_OK : error_set(error, AKIN_ARGUMENT, "a model of taste names an item that "
                                       "is not there, or lacks what it weighs");
}

}

enum akin_status personal_check(const struct personal_items *items, size_t rows,
                                struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; items->by_popularity && i < items->popular_count; i++)
        if (items->by_popularity[i] >= rows)
            return error_set(error, AKIN_ARGUMENT, "popular item %u: there are %zu",
                             items->by_popularity[i], rows);
    if (items->similar.starts)
        status = check_similar(&items->similar, rows, error);
    if (status == AKIN_OK && items->taste && items->taste->size)
        status = check_taste(items->taste, rows, error);
    return status;
}
