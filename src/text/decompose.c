#include "text/decompose.h"

#include <string.h>

#include "base/memory.h"

void decomposer_deinit(struct decomposer *decomposer)
{
    memory_free(decomposer->pending);
    memory_free(decomposer->sorted);
    *decomposer = (struct decomposer){ 0 };
}

struct decompose_run {
    const struct unicode *unicode;
    struct decomposer *decomposer;
    struct decompose_filter filter;
    struct text_pass pass;
    bool composed;
};

/* Stable by class. Runs are short, but a text may be all marks: then count instead of insert. */
static bool sort_pending(struct decomposer *d)
{
    enum { INSERTION_MAX = 32 };
    struct combining *pending = d->pending;
    if (d->count <= INSERTION_MAX) {
        for (size_t i = 1; i < d->count; i++) {
            struct combining item = pending[i];
            size_t at = i;
            for (; at > 0 && pending[at - 1].combining_class > item.combining_class; at--)
                pending[at] = pending[at - 1];
            pending[at] = item;
        }
        return true;
    }
    size_t place[257] = { 0 };
    if (!array_reserve((void **)&d->sorted, &d->sorted_capacity, d->count, sizeof *d->sorted))
        return false;
    for (size_t i = 0; i < d->count; i++)
        place[pending[i].combining_class + 1]++;
    for (size_t i = 1; i < 257; i++)
        place[i] += place[i - 1];
    for (size_t i = 0; i < d->count; i++)
        d->sorted[place[pending[i].combining_class]++] = pending[i];
    memcpy(pending, d->sorted, d->count * sizeof *pending);
    return true;
}

/* Puts the composites together inside the sorted run; what is left over stays in order. Each
 * composite swallows one more code point than its parts did. */
static void compose_pending(struct decomposer *d)
{
    struct combining *run = d->pending;
    if (d->count < 2 || run[0].combining_class != 0)
        return;
    size_t kept = 1;
    int last_class = -1;        /* of the last mark that stayed */
    for (size_t i = 1; i < d->count; i++) {
        bool blocked = last_class >= (int)run[i].combining_class;
        uint32_t composite = blocked ? 0 : unicode_compose(run[0].code, run[i].code);
        if (composite != 0) {
            run[0].code = composite;
            run[0].change = (int8_t)(run[0].change + run[i].change - 1);
            continue;
        }
        last_class = run[i].combining_class;
        run[kept++] = run[i];
    }
    d->count = kept;
}

static void write_run(struct decompose_run *run)
{
    struct decomposer *d = run->decomposer;
    for (size_t i = 0; i < d->count; i++) {
        uint32_t code = d->pending[i].code;
        ptrdiff_t change = d->pending[i].change;
        unsigned flags =
            run->filter.drop || run->filter.lower ? unicode_flags(run->unicode, code) : 0;
        if (flags & run->filter.drop) {
            if (change <= 0)
                text_pass_skip(&run->pass, (size_t)-change + 1);
            continue;
        }
        uint32_t lower[2] = { code };
        int count = run->filter.lower && flags & CODE_UPPER ? unicode_lower(code, lower) : 1;
        text_pass_emit(&run->pass, lower[0], change);
        if (count == 2)
            text_pass_emit(&run->pass, lower[1], 1);
    }
    d->count = 0;
}

static void flush(struct decompose_run *run)
{
    if (!sort_pending(run->decomposer)) {
        run->pass.to->failed = true;
        return;
    }
    write_run(run);
}

static void push(struct decompose_run *run, uint32_t code, bool first)
{
    struct decomposer *d = run->decomposer;
    int class =
        unicode_flags(run->unicode, code) & CODE_REORDERS ? unicode_combining_class(code) : 0;
    if (run->composed && class == 0 && d->count > 0) {
        /* A starter may compose with the one before it when nothing stands between. */
        if (!sort_pending(d))
            run->pass.to->failed = true;
        compose_pending(d);
        uint32_t composite = d->count == 1 && d->pending[0].combining_class == 0
                                 ? unicode_compose(d->pending[0].code, code) : 0;
        if (composite != 0) {
            d->pending[0].code = composite;
            d->pending[0].change = (int8_t)(d->pending[0].change - first);
            return;
        }
        write_run(run);
    } else if (class == 0) {
        flush(run);
    }
    if (!array_reserve((void **)&d->pending, &d->pending_capacity, d->count + 1,
                       sizeof *d->pending)) {
        run->pass.to->failed = true;
        return;
    }
    d->pending[d->count++] = (struct combining){ .code = code, .combining_class = (uint8_t)class,
                                                 .change = first ? 0 : 1 };
}

void text_decompose(const struct unicode *unicode, struct decomposer *decomposer, int form,
                    struct decompose_filter filter, const struct text_buffer *from,
                    struct text_buffer *to)
{
    unsigned decomposes = form & FORM_COMPATIBLE ? CODE_COMPATIBLE : CODE_DECOMPOSES;
    struct decompose_run run = { .unicode = unicode, .decomposer = decomposer, .filter = filter,
                                 .pass = text_pass_begin(from, to),
                                 .composed = form & FORM_COMPOSED };
    decomposer->count = 0;
    for (size_t at = 0; at < from->count && !to->failed;) {
        uint32_t code;
        at += utf8_decode(from->bytes + at, from->count - at, &code);
        if (!(unicode_flags(unicode, code) & decomposes)) {
            push(&run, code, true);
            continue;
        }
        uint32_t parts[DECOMPOSITION_MAX];
        int count = unicode_decompose(code, form & FORM_COMPATIBLE, parts);
        for (int i = 0; i < count; i++)
            push(&run, parts[i], i == 0);
    }
    if (run.composed) {
        if (!sort_pending(decomposer))
            to->failed = true;
        compose_pending(decomposer);
        write_run(&run);
    } else {
        flush(&run);
    }
}
