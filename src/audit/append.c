/* Appending: callers queue entries, the flusher makes each group of them durable together. */
#include <string.h>

#include "audit/audit_log.h"
#include "base/clock.h"
#include "base/limits.h"

enum {
    FRAME_BODY_BYTES_MAX = 1 << 30,
    GATHER_US = 50,
    GATHER_ROUNDS_MAX = 16,
};

void queue_clear(struct queue *queue)
{
    for (size_t i = 0; i < queue->large_count; i++)
        memory_free(queue->larges[i].data);
    queue->large_count = queue->large_bytes = 0;
    queue->count = 0;
    queue->entries.failed = false;
    bytes_clear(&queue->entries);
}

/* ---- callers ----------------------------------------------------------------------------- */

static enum akin_status report_failure(const struct akin_audit *audit, struct akin_error *error)
{
    return error_set(
        error, AKIN_IO,
        "the log takes no more records since an earlier failure; what was "
        "acknowledged before it is safe: mend its cause and open the log again: %.500s",
        audit->failure.message);
}

static enum akin_status check_record(const struct akin_audit_record *record, size_t number,
                                     struct akin_error *error)
{
    size_t source = record->source ? strlen(record->source) : 0;
    size_t cursor = record->cursor ? strlen(record->cursor) : 0;
    if (record->bytes > AKIN_AUDIT_RECORD_BYTES_MAX)
        return error_set(error, AKIN_LIMIT, "record %zu: %zu bytes, and %zu are allowed: split it",
                         number, record->bytes, AKIN_AUDIT_RECORD_BYTES_MAX);
    if (source > AKIN_AUDIT_SOURCE_BYTES_MAX || cursor > AKIN_AUDIT_CURSOR_BYTES_MAX)
        return error_set(error, AKIN_LIMIT,
                         "record %zu: a source has at most %d bytes and a cursor %d", number,
                         AKIN_AUDIT_SOURCE_BYTES_MAX, AKIN_AUDIT_CURSOR_BYTES_MAX);
    if (cursor && !source)
        return error_set(error, AKIN_ARGUMENT, "record %zu: a cursor needs a source", number);
    if (record->bytes && !record->data)
        return error_set(error, AKIN_ARGUMENT, "record %zu: no data", number);
    return AKIN_OK;
}

static void make_entry(const struct akin_audit_record *record, struct entry *entry)
{
    *entry = (struct entry){
        .kind = AKIN_AUDIT_RECORD,
        .time_us = record->time_us,
        .source = record->source ? record->source : "",
        .cursor = record->cursor ? record->cursor : "",
        .data = record->data,
        .bytes = record->bytes,
    };
    entry->source_bytes = strlen(entry->source);
    entry->cursor_bytes = strlen(entry->cursor);
    entry->large = entry_is_large(entry);
}

/* Copies of what does not fit into entries, with digests, made outside of the lock. */
static enum akin_status copy_larges(const struct akin_audit_record *records, size_t count,
                                    struct large_record **larges, size_t *large_count,
                                    struct akin_error *error)
{
    size_t found = 0;
    struct entry entry;
    for (size_t i = 0; i < count; i++) {
        make_entry(&records[i], &entry);
        found += entry.large;
    }
    if (found == 0)
        return AKIN_OK;
    struct large_record *made = memory_alloc(found, sizeof *made);
    for (size_t i = 0; made && i < count; i++) {
        make_entry(&records[i], &entry);
        if (!entry.large)
            continue;
        made[*large_count].data = memory_copy_bytes(records[i].data, records[i].bytes);
        made[*large_count].bytes = records[i].bytes;
        if (!made[(*large_count)++].data)
            break;
    }
    *larges = made;
    if (!made || !made[*large_count - 1].data)
        return error_memory(error);
    return AKIN_OK;
}

static void digest_of(const void *bytes, size_t count, unsigned char digest[32])
{
    struct sha256 sha;
    sha256_begin(&sha);
    sha256_add(&sha, bytes, count);
    sha256_end_bytes(&sha, digest);
}

/* Under the lock. On failure the queue is as it was. */
static enum akin_status enqueue(struct akin_audit *audit, const struct akin_audit_record *records,
                                size_t count, struct large_record *larges, size_t large_count,
                                struct akin_error *error)
{
    struct queue *queue = &audit->queue;
    size_t begin = queue->entries.count, taken = 0, large_bytes = 0;
    int64_t now = clock_unix_us();
    if (!array_reserve((void **)&queue->larges, &queue->large_capacity,
                       queue->large_count + large_count, sizeof *queue->larges))
        return error_memory(error);
    for (size_t i = 0; i < count; i++) {
        struct entry entry;
        make_entry(&records[i], &entry);
        if (entry.time_us == 0)
            entry.time_us = now;
        if (entry.large) {
            digest_of(larges[taken].data, larges[taken].bytes, entry.digest);
            larges[taken].index = audit->next + i;
            large_bytes += larges[taken].bytes;
            queue->larges[queue->large_count + taken] = larges[taken];
            taken++;
        }
        entry_append(&queue->entries, &entry);
    }
    if (queue->entries.failed) {
        queue->entries.failed = false;
        queue->entries.count = begin;
        return error_memory(error);
    }
    if (queue->count == 0)
        queue->first = audit->next;
    queue->count += count;
    queue->large_count += large_count;
    queue->large_bytes += large_bytes;
    audit->next += count;
    return AKIN_OK;
}

/* A request is served between two groups, and none may come in between. */
static bool must_wait(const struct akin_audit *audit)
{
    size_t bytes = audit->queue.entries.count + audit->queue.large_bytes;
    return audit->requests || (audit->queue.count && bytes > AUDIT_QUEUE_BYTES_MAX);
}

enum akin_status akin_audit_submit(struct akin_audit *audit,
                                   const struct akin_audit_record *records, size_t count,
                                   uint64_t *end, struct akin_error *error)
{
    struct large_record *larges = NULL;
    size_t large_count = 0;
    enum akin_status status = AKIN_OK;
    bool queued = false;
    for (size_t i = 0; i < count; i++)
        TRY(check_record(&records[i], i, error));
    TRY_DONE(copy_larges(records, count, &larges, &large_count, error));
    mutex_lock(audit->lock);
    while (audit->failure.status == AKIN_OK && must_wait(audit))
        condition_wait(audit->changed, audit->lock);
    if (audit->failure.status != AKIN_OK)
        status = report_failure(audit, error);
    else
        status = enqueue(audit, records, count, larges, large_count, error);
    queued = status == AKIN_OK;
    if (queued && end)
        *end = audit->next;
    if (queued && audit->queue.count == count)      /* the flusher may sleep */
        condition_wake(audit->changed);
    mutex_unlock(audit->lock);
done:
    for (size_t i = 0; !queued && i < large_count; i++)
        memory_free(larges[i].data);
    memory_free(larges);
    return status;
}

enum akin_status akin_audit_wait(struct akin_audit *audit, uint64_t records, uint64_t *durable,
                                 struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    mutex_lock(audit->lock);
    if (records > audit->next)
        status = error_set(error, AKIN_ARGUMENT, "waiting for more records than were submitted");
    while (status == AKIN_OK && audit->durable < records) {
        if (audit->failure.status != AKIN_OK)
            status = report_failure(audit, error);
        else
            condition_wait(audit->changed, audit->lock);
    }
    if (durable)
        *durable = audit->durable;
    mutex_unlock(audit->lock);
    return status;
}

enum akin_status akin_audit_append(struct akin_audit *audit,
                                   const struct akin_audit_record *records, size_t count,
                                   uint64_t *first, struct akin_error *error)
{
    uint64_t end = 0;
    TRY(akin_audit_submit(audit, records, count, &end, error));
    TRY(akin_audit_wait(audit, end, NULL, error));
    if (first)
        *first = end - count;
    return AKIN_OK;
}

enum akin_status log_request(struct akin_audit *audit,
                             enum akin_status (*run)(struct akin_audit *audit, void *context,
                                                     struct akin_error *error),
                             void *context, struct akin_error *error)
{
    struct request request = {.run = run, .context = context};
    mutex_lock(audit->lock);
    struct request **last = &audit->requests;
    while (*last)
        last = &(*last)->next;
    *last = &request;
    condition_wake(audit->changed);
    while (!request.done)
        condition_wait(audit->changed, audit->lock);
    mutex_unlock(audit->lock);
    if (request.status != AKIN_OK && error)
        *error = request.error;
    return request.status;
}

/* ---- the flusher ------------------------------------------------------------------------- */

static enum akin_status write_larges(struct akin_audit *audit, const struct queue *queue,
                                     struct akin_error *error)
{
    char name[TILE_PATH_BYTES], path[PATH_BYTES_MAX];
    for (size_t i = 0; i < queue->large_count; i++) {
        record_path(name, queue->larges[i].index);
        TRY(log_path(path, audit->folder, name, error));
        TRY(file_write(path, queue->larges[i].data, queue->larges[i].bytes, error));
    }
    return AKIN_OK;
}

/* One frame, one fdatasync. */
static enum akin_status commit(struct akin_audit *audit, const struct queue *queue,
                               struct akin_error *error)
{
    const unsigned char *entries = (const unsigned char *)queue->entries.data;
    size_t bytes = queue->entries.count, count = (size_t)queue->count, at = 0;
    unsigned char head[FRAME_HEAD_BYTES], signature[SIGNATURE_BYTES];
    struct tree_hash root;
    struct bytes text = {0};
    if (bytes > FRAME_BODY_BYTES_MAX || count > UINT32_MAX)
        return error_set(error, AKIN_LIMIT,
                         "a group of %zu bytes is too long: submit fewer records "
                         "at once",
                         bytes);
    if (!array_reserve((void **)&audit->leaves, &audit->leaf_capacity, count,
                       sizeof *audit->leaves))
        return error_memory(error);
    for (size_t i = 0; i < count; i++) {
        size_t length = get_u16(entries + at);
        tree_leaf(entries + at + ENTRY_LENGTH_BYTES, length, &audit->leaves[i]);
        at += ENTRY_LENGTH_BYTES + length;
    }
    TRY(write_larges(audit, queue, error));
    TRY(growth_add(&audit->growth, entries, bytes, audit->leaves, count, error));
    tree_edge_root(&audit->growth.edge, &root);
    checkpoint_text(&text, audit->signer.key.name, audit->growth.edge.size, &root);
    if (text.failed)
        return error_memory(error);
    signer_sign(&audit->signer, text.data, text.count, signature);
    bytes_deinit(&text);
    frame_head(head, queue->first, (uint32_t)count, (uint32_t)bytes);
    const struct file_part parts[] = {
        {head, sizeof head}, {entries, bytes}, {&root, sizeof root}, {signature, sizeof signature}};
    TRY(file_at_write(&audit->journal, audit->journal_bytes, parts, 4, error));
    uint64_t begin = clock_monotonic_ns();
    TRY(file_at_sync(&audit->journal, error));
    audit->sync_ns = clock_monotonic_ns() - begin;
    audit->journal_bytes += FRAME_HEAD_BYTES + bytes + FRAME_TAIL_BYTES;
    return AKIN_OK;
}

enum akin_status log_append_entry(struct akin_audit *audit, const struct entry *entry,
                                  struct akin_error *error)
{
    struct queue one = {.first = audit->growth.edge.size, .count = 1};
    entry_append(&one.entries, entry);
    enum akin_status status = one.entries.failed ? error_memory(error)
                                                 : commit(audit, &one, error);
    bytes_deinit(&one.entries);
    return status;
}

/* Called and left with the lock held. */
static void fail(struct akin_audit *audit, const struct akin_error *failure)
{
    if (audit->failure.status == AKIN_OK)
        audit->failure = *failure;
    condition_wake(audit->changed);
}

/* Writers that were acknowledged together come back together, one after the other: without a
 * moment's patience the first of them would have the disk for itself and the others would wait for
 * it. No longer than a small part of what the disk takes, and only while more keep coming. */
static void gather(struct akin_audit *audit)
{
    uint64_t expected =
        audit->groups[0] > audit->groups[1] ? audit->groups[0] : audit->groups[1];
    unsigned still = 0;
    if (audit->sync_ns < (uint64_t)GATHER_ROUNDS_MAX * GATHER_US * 1000)
        return;
    for (unsigned i = 0; i < GATHER_ROUNDS_MAX && still < 2; i++) {
        uint64_t before = audit->queue.count;
        if (before >= expected || audit->stopping || audit->requests)
            return;
        mutex_unlock(audit->lock);
        clock_sleep_us(GATHER_US);
        mutex_lock(audit->lock);
        still = audit->queue.count == before ? still + 1 : 0;
    }
}

static void flush_queue(struct akin_audit *audit)
{
    struct akin_error error = {0};
    gather(audit);
    audit->groups[1] = audit->groups[0];
    audit->groups[0] = audit->queue.count;
    struct queue taken = audit->queue;
    audit->queue = audit->taken;
    audit->taken = taken;
    condition_wake(audit->changed);         /* there is room */
    mutex_unlock(audit->lock);
    enum akin_status status = commit(audit, &audit->taken, &error);
    uint64_t end = audit->taken.first + audit->taken.count;
    queue_clear(&audit->taken);
    mutex_lock(audit->lock);
    if (status != AKIN_OK) {
        fail(audit, &error);
        return;
    }
    audit->durable = end;
    condition_wake(audit->changed);
    if (end - audit->integrated < INTEGRATE_RECORDS &&
        audit->growth.entries.count < INTEGRATE_BYTES)
        return;
    mutex_unlock(audit->lock);
    status = log_integrate(audit, &error);
    mutex_lock(audit->lock);
    if (status != AKIN_OK)
        fail(audit, &error);
    audit->checkpoint = audit->integrated;
}

static void serve_request(struct akin_audit *audit)
{
    struct request *request = audit->requests;
    if (audit->failure.status != AKIN_OK) {
        request->status = report_failure(audit, &request->error);
    } else {
        mutex_unlock(audit->lock);
        request->status = request->run(audit, request->context, &request->error);
        mutex_lock(audit->lock);
        if (request->status == AKIN_IO || request->status == AKIN_MEMORY)
            fail(audit, &request->error);
        if (audit->failure.status == AKIN_OK)
            audit->next = audit->durable = audit->growth.edge.size;
        audit->checkpoint = audit->integrated;
    }
    audit->requests = request->next;
    request->done = true;
    condition_wake(audit->changed);
}

void log_flush_loop(void *context)
{
    struct akin_audit *audit = context;
    mutex_lock(audit->lock);
    for (;;) {
        if (audit->queue.count && audit->failure.status == AKIN_OK)
            flush_queue(audit);
        else if (audit->requests)
            serve_request(audit);
        else if (audit->stopping)
            break;
        else
            condition_wait(audit->changed, audit->lock);
    }
    mutex_unlock(audit->lock);
}
