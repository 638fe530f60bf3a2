/* What tests/watch/nats_cluster.py runs: makes a stream, publishes to it, and reads from it through
 * a source, storing each event once in a file that several workers share.
 *
 *   nats_worker stream URLS NAME REPLICAS            prints the server that leads it
 *   nats_worker consumer URLS STREAM NAME WAIT_MS    a durable one, whose ack wait is short
 *   nats_worker publish URLS STREAM FIRST LAST       ids FIRST to LAST, each acknowledged
 *   nats_worker work URLS STREAM CONSUMER FILE       until it is killed, or SIGTERM
 *   nats_worker left URLS STREAM CONSUMER            prints events not delivered, not acknowledged
 *
 * The file has a line "id<tab>text" an event. Who appends holds its lock, reads what others have
 * appended since, and leaves out ids that are there; a line that a killed process left torn is cut.
 */
#include <errno.h>
#include <fcntl.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/memory.h"
#include "events/source.h"

enum { GROUP = 64, TRIES = 600, ASK_MS = 1000 };

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "nats_worker: %s: %s\n", what, why);
    return 1;
}

/* ---- the file -------------------------------------------------------------------------------- */

struct shared_file {
    int fd;
    off_t read;                 /* up to here its ids are known */
    struct string_map ids;
    struct string_pool texts;
};

static bool learn(struct shared_file *f)
{
    off_t end = lseek(f->fd, 0, SEEK_END);
    size_t bytes = (size_t)(end - f->read), done = 0;
    char *text = malloc(bytes + 1);
    if (!text || pread(f->fd, text, bytes, f->read) != (ssize_t)bytes)
        return false;
    for (char *newline; (newline = memchr(text + done, '\n', bytes - done));) {
        char *tab = memchr(text + done, '\t', (size_t)(newline - (text + done)));
        if (!tab)
            return false;
        size_t id_bytes = (size_t)(tab - (text + done));
        char *id = string_pool_add(&f->texts, text + done, id_bytes);
        if (!id || !string_map_put(&f->ids, id, id_bytes, 1, NULL, NULL))
            return false;
        done = (size_t)(newline - text) + 1;
    }
    free(text);
    f->read += (off_t)done;
    return f->read == end || !ftruncate(f->fd, f->read);
}

/* `lines` holds `count` lines; those whose id is new are appended, and are durable then. */
static bool append(struct shared_file *f, struct bytes *lines)
{
    struct bytes fresh = {0};
    bool good = !flock(f->fd, LOCK_EX) && learn(f);
    for (size_t at = 0; good && at < lines->count;) {
        size_t bytes = (size_t)((char *)memchr(lines->data + at, '\n', lines->count - at)
                                - (lines->data + at)) + 1;
        size_t id_bytes = (size_t)((char *)memchr(lines->data + at, '\t', bytes)
                                   - (lines->data + at));
        char *id = string_pool_add(&f->texts, lines->data + at, id_bytes);
        bool added = false;
        good = id && string_map_put(&f->ids, id, id_bytes, 1, NULL, &added);
        if (added)
            bytes_append(&fresh, lines->data + at, bytes);
        at += bytes;
    }
    if (good && fresh.count) {
        good = write(f->fd, fresh.data, fresh.count) == (ssize_t)fresh.count
               && !fdatasync(f->fd);
        f->read += (off_t)fresh.count;
    }
    flock(f->fd, LOCK_UN);
    bytes_deinit(&fresh);
    bytes_clear(lines);
    return good && !fresh.failed;
}

static void tell(void *cookie, const char *source, const char *line)
{
    (void)cookie;
    fprintf(stderr, "%d %s: %s\n", (int)getpid(), source, line);
}

static int work(char **arguments)
{
    struct akin_watch_source settings;
    struct event_source *source = NULL;
    struct akin_error error;
    struct shared_file file = {.fd = open(arguments[3], O_RDWR | O_CREAT | O_APPEND, 0600)};
    struct event event = {0};
    struct bytes lines = {0};
    uint64_t ticket = 0, waiting = 0;
    bool good = file.fd >= 0;
    source_settings_default(AKIN_SOURCE_NATS, &settings);
    settings.address = arguments[0];
    settings.stream = arguments[1];
    settings.consumer = arguments[2];
    settings.plain = true;
    if (source_open(&settings, "", (struct source_note){NULL, tell}, &source, &error) != AKIN_OK)
        return fail("work", error.message);
    while (!stopped && good) {
        enum source_state state;
        if (source->next(source, waiting ? 0 : 100, &event, &state, &error) != AKIN_OK)
            return fail("work", error.message);
        if (state == SOURCE_BAD)
            fail("work", error.message);
        if (state == SOURCE_EVENT) {
            bytes_printf(&lines, "%s\t%.*s\n", event.id, (int)event.text_bytes, event.text);
            ticket++;
            waiting++;
        }
        if (waiting == GROUP || (waiting && state == SOURCE_QUIET)) {
            good = append(&file, &lines)
                   && source->stored(source, ticket, &error) == AKIN_OK;
            waiting = 0;
        }
    }
    source_close(&source);
    event_clear(&event);
    bytes_deinit(&lines);
    string_map_deinit(&file.ids);
    string_pool_deinit(&file.texts);
    return good ? 0 : fail(arguments[3], strerror(errno));
}

/* ---- stream, consumer, publishing ------------------------------------------------------------ */

static int make_stream(jsCtx *js, const char *name, int replicas)
{
    jsStreamConfig config;
    jsStreamInfo *info = NULL;
    jsErrCode code;
    char subject[256];
    const char *subjects[] = {subject};
    snprintf(subject, sizeof subject, "%.200s.>", name);
    jsStreamConfig_Init(&config);
    config.Name = name;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.Replicas = replicas;
    natsStatus s = js_GetStreamInfo(&info, js, name, NULL, &code);
    if (s != NATS_OK)
        s = js_AddStream(&info, js, &config, NULL, &code);
    if (s != NATS_OK)
        return fail("stream", natsStatus_GetText(s));
    printf("%s\n", info->Cluster && info->Cluster->Leader ? info->Cluster->Leader : "");
    jsStreamInfo_Destroy(info);
    return 0;
}

static int make_consumer(jsCtx *js, char **arguments)
{
    jsConsumerConfig config;
    jsConsumerInfo *info = NULL;
    jsConsumerConfig_Init(&config);
    config.Durable = arguments[2];
    config.AckPolicy = js_AckExplicit;
    config.AckWait = strtoll(arguments[3], NULL, 10) * 1000000;
    config.MaxAckPending = 10000;
    natsStatus s = js_AddConsumer(&info, js, arguments[1], &config, NULL, NULL);
    if (s != NATS_OK)
        return fail("consumer", natsStatus_GetText(s));
    jsConsumerInfo_Destroy(info);
    return 0;
}

static int left(jsCtx *js, char **arguments)
{
    jsConsumerInfo *info = NULL;
    natsStatus s = js_GetConsumerInfo(&info, js, arguments[1], arguments[2], NULL, NULL);
    if (s != NATS_OK)
        return fail("left", natsStatus_GetText(s));
    printf("%llu %lld\n", (unsigned long long)info->NumPending, (long long)info->NumAckPending);
    jsConsumerInfo_Destroy(info);
    return 0;
}

static int publish(jsCtx *js, char **arguments)
{
    long long first = strtoll(arguments[2], NULL, 10), last = strtoll(arguments[3], NULL, 10);
    char subject[256], id[64], text[128];
    snprintf(subject, sizeof subject, "%.200s.test", arguments[1]);
    for (long long i = first; i <= last; i++) {
        natsStatus s = NATS_ERR;
        jsPubOptions options;
        jsPubOptions_Init(&options);
        options.MsgId = id;
        options.MaxWait = ASK_MS;
        snprintf(id, sizeof id, "event-%lld", i);
        snprintf(text, sizeof text, "network.ovs.bridge.create br%lld 192.168.1.1/24", i);
        for (int t = 0; t < TRIES && s != NATS_OK; t++) {
            if (t)
                clock_sleep_us(50000);
            s = js_Publish(NULL, js, subject, text, (int)strlen(text), &options, NULL);
        }
        if (s != NATS_OK)
            return fail("publish", natsStatus_GetText(s));
    }
    return 0;
}

static void quiet(natsConnection *connection, natsSubscription *subscription, natsStatus status,
                  void *closure)
{
    (void)connection;
    (void)subscription;
    (void)status;
    (void)closure;
}

static int with_servers(const char *what, char **arguments)
{
    natsOptions *options = NULL;
    natsConnection *connection = NULL;
    jsCtx *js = NULL;
    jsOptions wait;
    char urls[1024], *rest = urls, *url;
    const char *list[16];
    int count = 0, result = 1;
    snprintf(urls, sizeof urls, "%s", arguments[0]);
    while (count < 16 && (url = strsep(&rest, ",")))
        list[count++] = url;
    jsOptions_Init(&wait);
    wait.Wait = ASK_MS;
    natsStatus s = natsOptions_Create(&options);
    if (s == NATS_OK)
        s = natsOptions_SetServers(options, list, count);
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(options, quiet, NULL);
    if (s == NATS_OK)
        s = natsOptions_SetMaxReconnect(options, -1);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectWait(options, 100);
    if (s == NATS_OK)
        s = natsConnection_Connect(&connection, options);
    if (s == NATS_OK)
        s = natsConnection_JetStream(&js, connection, &wait);
    if (s != NATS_OK)
        result = fail(arguments[0], natsStatus_GetText(s));
    else if (!strcmp(what, "stream"))
        result = make_stream(js, arguments[1], arguments[2][0] - '0');
    else if (!strcmp(what, "consumer"))
        result = make_consumer(js, arguments);
    else if (!strcmp(what, "left"))
        result = left(js, arguments);
    else if (!strcmp(what, "publish"))
        result = publish(js, arguments);
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
    natsOptions_Destroy(options);
    return result;
}

int main(int count, char **arguments)
{
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGTERM, &action, NULL);
    if (count < 5)
        return fail("usage", "see the top of nats_worker.c");
    if (!strcmp(arguments[1], "work") && count == 6)
        return work(arguments + 2);
    return with_servers(arguments[1], arguments + 2);
}
