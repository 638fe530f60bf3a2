#include "watch/event_kinds.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"

static const char kinds_mark[16] = "akin kinds 1\n";
enum { AT_DIMENSION = 16, AT_MODEL = 24, AT_CHECK = 152, HEAD_BYTES = 160, ROWS_AT_ONCE = 16 };

void event_kinds_init(struct event_kinds *k)
{
    *k = (struct event_kinds){ .file.fd = -1 };
}

void event_kinds_close(struct event_kinds *k)
{
    file_at_close(&k->file);
    number_map_deinit(&k->places);
    memory_free(k->ids);
    memory_free(k->halves);
    memory_free(k->scales);
    memory_free(k->texts);
    string_pool_deinit(&k->pool);
    bytes_deinit(&k->pending);
    event_kinds_init(k);
}

/* ---- the file ------------------------------------------------------------------------------- */

void kinds_head_append(struct bytes *out, const char *model, size_t dimension)
{
    char name[AT_CHECK - AT_MODEL] = "";
    size_t begin = out->count;
    snprintf(name, sizeof name, "%s", model);
    bytes_append(out, kinds_mark, sizeof kinds_mark);
    bytes_append_u64(out, dimension);
    bytes_append(out, name, sizeof name);
    if (!out->failed)
        bytes_append_u64(out, hash_bytes(out->data + begin, AT_CHECK));
}

const char *kinds_head_read(const unsigned char *data, size_t bytes, struct kinds_head *head)
{
    if (bytes < HEAD_BYTES || memcmp(data, kinds_mark, sizeof kinds_mark))
        return "it does not begin as a file of kinds does";
    if (hash_bytes(data, AT_CHECK) != load_u64(data + AT_CHECK))
        return "its head is damaged";
    uint64_t dimension = load_u64(data + AT_DIMENSION);
    if (dimension > DIMENSION_MAX || data[AT_CHECK - 1])
        return "its head names no such model or dimension";
    memcpy(head->model, data + AT_MODEL, sizeof head->model);
    head->dimension = (size_t)dimension;
    head->bytes = HEAD_BYTES;
    return NULL;
}

const char *kind_record_parse(const struct record *record, size_t dimension, const char **text,
                              const unsigned char **halves)
{
    if (record->body_bytes < 2 * dimension + 1 || record->body[record->body_bytes - 1])
        return "a kind is shorter than its vector";
    *halves = record->body;
    *text = (const char *)record->body + 2 * dimension;
    if (strlen(*text) != record->body_bytes - 2 * dimension - 1)
        return "the text of a kind holds a NUL";
    return NULL;
}

static void path_of(struct event_kinds *k, const char *folder)
{
    snprintf(k->path, sizeof k->path, "%s/kinds-%016" PRIx64 ".log", folder,
             k->model[0] ? hash_bytes(k->model, strlen(k->model)) : 0);
}

/* The head is renamed into place, so that it is whole. */
static enum akin_status open_file(struct event_kinds *k, bool read_only, struct akin_error *error)
{
    enum akin_status status =
        file_at_open(k->path, read_only ? FILE_AT_READ : FILE_AT_WRITE, &k->file, error);
    if (status == AKIN_NOT_FOUND)
        return AKIN_OK;                 /* made with the first kind */
    if (status != AKIN_OK)
        return status;
    unsigned char data[HEAD_BYTES];
    struct kinds_head head;
    status = file_at_read(&k->file, 0, data, sizeof data, error);
    const char *wrong = status == AKIN_OK ? kinds_head_read(data, sizeof data, &head)
                        : status == AKIN_FORMAT ? "it ends inside its head" : NULL;
    if (!wrong && status == AKIN_OK && strcmp(head.model, k->model))
        wrong = "it belongs to another model of the same hash";
    if (!wrong && status == AKIN_OK && k->count && head.dimension != k->dimension)
        wrong = "its vectors have another dimension than those of this process";
    if (wrong)
        status = error_set(error, AKIN_FORMAT, "%s: %s: remove it, its vectors can be made again",
                           k->path, wrong);
    if (status != AKIN_OK) {
        file_at_close(&k->file);
        return status;
    }
    k->dimension = head.dimension;
    k->end = head.bytes;
    return AKIN_OK;
}

enum akin_status event_kinds_open(struct event_kinds *k, const char *folder, const char *model,
                                  bool read_only, struct akin_error *error)
{
    event_kinds_init(k);
    if (model && strlen(model) >= sizeof k->model)
        return error_set(error, AKIN_ARGUMENT, "model: at most %zu bytes tell it apart",
                         sizeof k->model - 1);
    snprintf(k->model, sizeof k->model, "%s", model ? model : "");
    path_of(k, folder);
    return open_file(k, read_only, error);
}

/* ---- in memory ------------------------------------------------------------------------------ */

static bool add(struct event_kinds *k, const struct kernels *kernels, uint64_t id,
                const char *text, const unsigned char *halves)
{
    size_t n = k->count, dim = k->dimension;
    float wide[256];
    double square = 0;
    if (!array_reserve((void **)&k->ids, &k->id_capacity, n + 1, sizeof *k->ids)
        || !array_reserve((void **)&k->scales, &k->scale_capacity, n + 1, sizeof *k->scales)
        || !array_reserve((void **)&k->texts, &k->text_capacity, n + 1, sizeof *k->texts)
        || !array_reserve((void **)&k->halves, &k->capacity, n + 1,
                          (dim ? dim : 1) * sizeof *k->halves))
        return false;
    char *copy = string_pool_add(&k->pool, text, strlen(text));
    if (!copy || !number_map_put(&k->places, id, n, NULL, NULL))
        return false;
    for (size_t at = 0; at < dim; at += 256) {
        size_t step = dim - at < 256 ? dim - at : 256;
        kernels->widen_f16(wide, halves + 2 * at, step);
        for (size_t i = 0; i < step; i++)
            square += (double)wide[i] * (double)wide[i];
    }
    if (dim)
        memcpy(k->halves + n * dim, halves, 2 * dim);
    k->ids[n] = id;
    k->texts[n] = copy;
    k->scales[n] = isfinite(square) && square > 0 ? (float)(1 / sqrt(square)) : 0;
    k->count++;
    return true;
}

static enum akin_status take(struct event_kinds *k, const struct kernels *kernels,
                             const unsigned char *data, size_t bytes, struct akin_error *error)
{
    for (size_t at = 0; at < bytes;) {
        struct record record;
        const char *text;
        const unsigned char *halves;
        if (!stored_record_read(data + at, bytes - at, RECORD_KIND, &record)
            || kind_record_parse(&record, k->dimension, &text, &halves)) {
            size_t next = stored_record_find(data, bytes, at + 1, RECORD_KIND);
            if (next == bytes)
                return AKIN_OK;
            k->damaged += next - at;
            k->end += next - at;
            at = next;
            continue;
        }
        uint64_t place;
        if (!number_map_get(&k->places, record.number, &place) && k->count < TEMPLATES_MAX
            && !add(k, kernels, record.number, text, halves))
            return error_memory(error);
        k->end += record.bytes;
        at += record.bytes;
    }
    return AKIN_OK;
}

enum akin_status event_kinds_catch_up(struct event_kinds *k, const struct kernels *kernels,
                                      bool exclusive, uint64_t *cut, struct akin_error *error)
{
    uint64_t size;
    if (k->file.fd < 0)
        TRY(open_file(k, !exclusive, error));
    if (k->file.fd < 0)
        return AKIN_OK;
    TRY(file_at_size(&k->file, &size, error));
    if (size <= k->end)
        return AKIN_OK;
    struct file_window window;      /* it may be a gigabyte at first */
    TRY(file_window_open(&k->file, k->end, (size_t)(size - k->end), &window, error));
    enum akin_status status = take(k, kernels, window.data, window.bytes, error);
    file_window_close(&window);
    if (status == AKIN_OK && exclusive && k->end < size) {
        *cut += size - k->end;
        status = file_at_truncate(&k->file, k->end, error);
    }
    return status;
}

enum akin_status event_kinds_put(struct event_kinds *k, const struct kernels *kernels, uint64_t id,
                                 const char *text, const float *vector, size_t dimension,
                                 struct akin_error *error)
{
    uint64_t place;
    if (number_map_get(&k->places, id, &place) || k->count >= TEMPLATES_MAX)
        return AKIN_OK;
    if (k->file.fd < 0 && !k->count)
        k->dimension = dimension;
    if (k->dimension != dimension || dimension > DIMENSION_MAX)
        return error_set(error, AKIN_ARGUMENT,
                         "%s: kinds have vectors of %zu numbers there, not of %zu", k->path,
                         k->dimension, dimension);
    size_t length = strlen(text), before = k->pending.count;
    length = length < EVENT_KIND_TEXT_MAX ? length : EVENT_KIND_TEXT_MAX;
    uint16_t *halves = memory_alloc(dimension, sizeof *halves);
    if (!halves)
        return error_memory(error);
    kernels->narrow_f16(halves, vector, dimension);
    size_t begin = stored_record_begin(&k->pending);
    bytes_append(&k->pending, halves, 2 * dimension);
    bytes_append(&k->pending, text, length);
    bytes_append(&k->pending, "", 1);
    stored_record_end(&k->pending, begin, RECORD_KIND, id);
    const char *copy = k->pending.failed ? NULL
                       : k->pending.data + begin + RECORD_HEAD_BYTES + 2 * dimension;
    bool done = copy && add(k, kernels, id, copy, (unsigned char *)halves);
    memory_free(halves);
    if (!done) {
        k->pending.count = before;
        k->pending.failed = false;
    }
    return done ? AKIN_OK : error_memory(error);
}

enum akin_status event_kinds_flush(struct event_kinds *k, bool durable, struct akin_error *error)
{
    if (k->pending.count && k->file.fd < 0) {
        struct bytes head = { 0 };
        kinds_head_append(&head, k->model, k->dimension);
        enum akin_status status = head.failed ? error_memory(error)
                                              : file_write(k->path, head.data, head.count, error);
        bytes_deinit(&head);
        if (status != AKIN_OK)
            return status;
        TRY(open_file(k, false, error));
        if (k->file.fd < 0)
            return error_set(error, AKIN_IO, "%s: was removed while it is in use", k->path);
    }
    if (k->pending.count) {
        enum akin_status status = file_at_write(
            &k->file, k->end, &(struct file_part){ k->pending.data, k->pending.count }, 1, error);
        if (status != AKIN_OK) {
            file_at_truncate(&k->file, k->end, NULL);
            return status;
        }
        k->end += k->pending.count;
        bytes_clear(&k->pending);
        k->unsynced = true;
    }
    if (durable && k->unsynced) {
        TRY(file_at_sync(&k->file, error));
        k->unsynced = false;
    }
    return AKIN_OK;
}

/* ---- scores --------------------------------------------------------------------------------- */

struct scoring {
    const struct event_kinds *kinds;
    const struct kernels *kernels;
    const float *query;
    float *wide;                /* [ROWS_AT_ONCE][dimension] */
    float factor;               /* 1 / length of the query, 0 where there is none */
};

static bool scoring_begin(struct scoring *s, const struct event_kinds *k,
                          const struct kernels *kernels, const float *query)
{
    double square = 0;
    for (size_t i = 0; i < k->dimension; i++)
        square += (double)query[i] * (double)query[i];
    *s = (struct scoring){ .kinds = k, .kernels = kernels, .query = query };
    s->factor = isfinite(square) && square > 0 ? (float)(1 / sqrt(square)) : 0;
    s->wide = memory_alloc_aligned(ROWS_AT_ONCE * k->dimension, sizeof *s->wide);
    return s->wide;
}

static void score_rows(const struct scoring *s, const uint32_t *rows, size_t count, float *scores)
{
    const float *pointers[ROWS_AT_ONCE];
    size_t dim = s->kinds->dimension;
    for (size_t i = 0; i < count; i++) {
        pointers[i] = s->wide + i * dim;
        s->kernels->widen_f16(s->wide + i * dim, s->kinds->halves + rows[i] * dim, dim);
    }
    s->kernels->score_dot_f32(scores, s->query, 1, pointers, count, dim);
    for (size_t i = 0; i < count; i++) {
        scores[i] *= s->factor * s->kinds->scales[rows[i]];
        scores[i] = isfinite(scores[i]) ? scores[i] : 0;
    }
}

bool event_kinds_score(const struct event_kinds *k, const struct kernels *kernels,
                       const float *query, size_t begin, size_t end, float *scores)
{
    struct scoring s;
    uint32_t rows[ROWS_AT_ONCE];
    memset(scores + begin, 0, (end - begin) * sizeof *scores);
    if (!k->dimension)
        return true;
    if (!scoring_begin(&s, k, kernels, query))
        return false;
    for (size_t row = begin; row < end; row += ROWS_AT_ONCE) {
        size_t count = end - row < ROWS_AT_ONCE ? end - row : ROWS_AT_ONCE;
        for (size_t i = 0; i < count; i++)
            rows[i] = (uint32_t)(row + i);
        score_rows(&s, rows, count, scores + row);
    }
    memory_free(s.wide);
    return true;
}

bool event_kinds_score_some(const struct event_kinds *k, const struct kernels *kernels,
                            const float *query, struct hit *hits, size_t count)
{
    struct scoring s;
    uint32_t rows[ROWS_AT_ONCE];
    float scores[ROWS_AT_ONCE];
    if (!scoring_begin(&s, k, kernels, query))
        return false;
    for (size_t at = 0; at < count; at += ROWS_AT_ONCE) {
        size_t some = count - at < ROWS_AT_ONCE ? count - at : ROWS_AT_ONCE;
        for (size_t i = 0; i < some; i++)
            rows[i] = hits[at + i].row;
        score_rows(&s, rows, some, scores);
        for (size_t i = 0; i < some; i++)
            hits[at + i].score = scores[i];
    }
    memory_free(s.wide);
    return true;
}
