/* Samples that are made when they are wanted. */
#include "base/clock.h"
#include "train/sample_source.h"

static enum akin_status reader_create(const struct samples_settings *settings, void **reader,
                                      struct akin_error *error)
{
    (void)settings;
    (void)error;
    *reader = NULL;
    return AKIN_OK;
}

static void reader_destroy(void *reader)
{
    (void)reader;
}

static void reader_rewind(void *reader)
{
    (void)reader;
}

static enum akin_status fill(const struct samples_settings *settings, void *reader,
                             const struct order_part *part, int32_t *rows,
                             struct sample_effort *effort, struct akin_error *error)
{
    (void)reader;
    (void)error;
    size_t length = 2 * settings->seq_len, done = 0;
    uint64_t start = clock_monotonic_ns();
    for (size_t r = 0; r < part->run_count; r++)
        for (size_t i = 0; i < part->runs[r].count; i++)
            tokens_make(settings->seed, part->runs[r].first + i, settings->vocab, length,
                        rows + part->rows[done++] * length);
    effort->seconds = (double)(clock_monotonic_ns() - start) * 1e-9;
    return AKIN_OK;
}

const struct sample_source *samples_memory(void)
{
    static const struct sample_source source = {
        reader_create, reader_destroy, reader_rewind, fill,
    };
    return &source;
}
