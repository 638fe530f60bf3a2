// What the kernels of a search need, and the order in which they are started.
#include <cstring>

#include "compute/cuda/search_cuda.cuh"

namespace {

template <typename Work, typename Each> void for_buffers(Work *w, const Each &each)
{
    each(w->wide), each(w->narrow), each(w->bytes), each(w->errors), each(w->gathered);
    each(w->counts), each(w->thresholds), each(w->maxima), each(w->survivors), each(w->scores);
    each(w->single);
}

enum akin_status reserve(platform *p, search_work *w, const search_scan *scan,
                         struct akin_error *error)
{
    size_t count = scan->queries.count, numbers = count * scan->rows.dim;
    struct {
        buffer *b;
        size_t bytes;
    } wanted[] = {
        {&w->wide, numbers * sizeof(float)},
        {&w->narrow, numbers * sizeof(half_t)},
        {&w->bytes, numbers},
        {&w->errors, 2 * count * sizeof(float)},
        {&w->gathered, count * sizeof(uint32_t)},
        {&w->counts, count * sizeof(unsigned)},
        {&w->thresholds, count * sizeof(float)},
        {&w->maxima, count * scan->subsets * sizeof(float)},
        {&w->survivors, count * scan->room * sizeof(uint64_t)},
    };
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; status == AKIN_OK && i < sizeof wanted / sizeof *wanted; i++)
        status = buffer_need(p, wanted[i].b, wanted[i].bytes, error);
    return status;
}

}

void search_work_release(platform *p, search_work *work)
{
    for_buffers(work, [p](buffer &b) {
        platform_release(p, b.memory);
        b = {};
    });
}

size_t search_work_bytes(const search_work *work)
{
    size_t bytes = 0;
    for_buffers(work, [&bytes](const buffer &b) { bytes += b.bytes; });
    return bytes;
}

enum search_pass search_pass_for(const search_view *view, size_t k)
{
    return view->rows.bytes && k <= SEARCH_DEVICE_INT8_K ? SEARCH_PASS_INT8 : SEARCH_PASS_FP16;
}

enum akin_status search_start(platform *p, search_work *work, const search_view *view,
                              const search_job *job, struct akin_error *error)
{
    search_scan scan = {};
    enum search_pass pass = job->pass == SEARCH_PASS_AUTO ? search_pass_for(view, job->k)
                                                          : job->pass;
    ASSERT(pass == SEARCH_PASS_FP16 || (pass == SEARCH_PASS_INT8 && view->rows.bytes));
    scan.rows = view->rows;
    scan.mask = job->mask;
    scan.k = job->k;
    scan.int8 = pass == SEARCH_PASS_INT8;
    scan.queries.count = job->count;
    scan.queries.dim = view->rows.dim;
    if (!search_many_plan(p, &scan))
        return error_set(error, AKIN_UNSUPPORTED, "this GPU has no shared memory for a search at "
                         "dimension %zu: search on the CPU", view->rows.dim);
    enum akin_status status = reserve(p, work, &scan, error);
    if (status != AKIN_OK)
        return status;
    scan.queries.given = job->given;
    scan.queries.numbers = job->numbers;
    scan.queries.wide = in<float>(work->wide);
    scan.queries.narrow = in<half_t>(work->narrow);
    scan.queries.bytes = in<int8_t>(work->bytes);
    scan.queries.error_fp16 = in<float>(work->errors);
    scan.queries.error_int8 = in<float>(work->errors) + job->count;
    scan.maxima = in<float>(work->maxima);
    scan.survivors = in<uint64_t>(work->survivors);
    scan.survivor_count = in<unsigned>(work->counts);
    scan.thresholds = in<float>(work->thresholds);
    search_narrow(p, &scan.rows, &scan.queries, view->margins);
    if (scan.mask.masks) {
        scan.gathered = in<uint32_t>(work->gathered);
        search_few(p, &scan, SEARCH_FEW, &job->answers);
    }
    search_many_sample(p, &scan);
    search_thresholds(p, &scan);
    search_many(p, &scan);
    search_select(p, &scan, &job->answers);
    return AKIN_OK;
}

enum akin_status search_start_one(platform *p, search_work *work, search_single *single,
                                  const search_given *factors, const search_given *query,
                                  struct akin_error *error)
{
    const size_t candidates = ONE_SUBSETS * sizeof(float);
    const size_t counters = candidates + ONE_ROOM * sizeof(uint64_t);
    bool fresh = !work->single.memory;
    enum akin_status status = buffer_need(p, &work->scores, single->rows.listed * sizeof(float),
                                          error);
    if (status == AKIN_OK)
        status = buffer_need(p, &work->single, counters + 2 * sizeof(unsigned), error);
    if (status != AKIN_OK)
        return status;
    unsigned char *memory = in<unsigned char>(work->single);
    if (fresh)
        platform_clear(p, memory + counters, 2 * sizeof(unsigned));
    single->scores = in<float>(work->scores);
    single->maxima = reinterpret_cast<float *>(memory);
    single->candidates = reinterpret_cast<uint64_t *>(memory + candidates);
    single->counters = reinterpret_cast<unsigned *>(memory + counters);
    search_one(p, single, factors, query);
    return AKIN_OK;
}

enum { SPINS = 1 << 20, ASKED_EVERY = 1024 };       // tens of milliseconds; answers

enum akin_status search_await(platform *p, const uint32_t *ticket, uint32_t number,
                              struct akin_error *error)
{
    for (int i = 0; i < SPINS && number % ASKED_EVERY; i++) {
        if (__atomic_load_n(ticket, __ATOMIC_ACQUIRE) == number)
            return AKIN_OK;
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
    return platform_finish(p, error);
}
