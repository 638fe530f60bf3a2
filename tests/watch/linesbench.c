/* How fast sources hand out events, alone: no masking, scoring or storing.
 *
 *   linesbench KIND COUNT [RATE [URL]]
 *
 * KIND is jsonl or text (a file that is there), follow (a file that another process writes to),
 * socket (one client), clients (eight), nats (the JetStream server at URL, stream BENCH, which is
 * made). RATE 0: as fast as it goes; otherwise another process sends so many a second, and the time
 * from there to here is told. Events have about 130 bytes. */
#include <fcntl.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "events/source.h"

enum { CLIENTS = 8, GROUP = 256, FLUSH_BYTES = 1 << 16, SECONDS_MAX = 120 };

struct bench {
    const char *kind, *url;
    uint64_t count, rate;
    bool plain;
    char folder[64], path[128];
};

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

static int make_event(const struct bench *b, uint64_t i, char *text, size_t bytes)
{
    static const char plain[] =
        "%llu network.ovs.bridge.port-%llu created on br-int, mac fa:16:3e:%02llx:1f:77, "
        "instance 9c%06llx-5b2e-4d0f-8a31-aa90b4e1c7d2\n";
    static const char json[] =
        "{\"time\":\"%llu\",\"source\":\"ovs\",\"level\":\"INFO\",\"text\":\"port-%llu created on "
        "br-int, mac fa:16:3e:%02llx:1f:77\",\"session\":\"9c%06llx\"}\n";
    return snprintf(text, bytes, b->plain ? plain : json,
                    (unsigned long long)clock_monotonic_ns(), (unsigned long long)i,
                    (unsigned long long)i % 256, (unsigned long long)i % 4096);
}

static void pace(const struct bench *b, uint64_t i, uint64_t began)
{
    if (!b->rate)
        return;
    uint64_t due = began + i * 1000000000 / b->rate, now = clock_monotonic_ns();
    if (due > now)
        clock_sleep_us((unsigned)((due - now) / 1000));
}

/* ---- who sends ------------------------------------------------------------------------------- */

static void send_lines(const struct bench *b, int fd, uint64_t count)
{
    struct bytes buffer = {0};
    uint64_t began = clock_monotonic_ns();
    for (uint64_t i = 0; i < count; i++) {
        char text[512];
        pace(b, i, began);
        bytes_append(&buffer, text, (size_t)make_event(b, i, text, sizeof text));
        if (b->rate || buffer.count > FLUSH_BYTES || i + 1 == count) {
            for (size_t at = 0; at < buffer.count;) {
                ssize_t sent = write(fd, buffer.data + at, buffer.count - at);
                if (sent < 0)
                    give_up("write");
                at += (size_t)sent;
            }
            bytes_clear(&buffer);
        }
    }
    bytes_deinit(&buffer);
    close(fd);
}

static int open_target(const struct bench *b)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strcmp(b->kind, "socket") && strcmp(b->kind, "clients")) {
        int file = open(b->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        return file < 0 ? (give_up(b->path), -1) : file;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", b->path);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        give_up(b->path);
    return fd;
}

static void send_nats(const struct bench *b)
{
    natsConnection *connection = NULL;
    jsCtx *js = NULL;
    jsStreamConfig config;
    const char *subjects[] = {"BENCH.>"};
    jsStreamConfig_Init(&config);
    config.Name = "BENCH";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    if (natsConnection_ConnectTo(&connection, b->url) != NATS_OK
        || natsConnection_JetStream(&js, connection, NULL) != NATS_OK)
        give_up(b->url);
    js_DeleteStream(js, "BENCH", NULL, NULL);
    natsStatus s = js_AddStream(NULL, js, &config, NULL, NULL);
    uint64_t began = clock_monotonic_ns();
    for (uint64_t i = 0; i < b->count && s == NATS_OK; i++) {
        char text[512];
        if (b->rate && !i)
            clock_sleep_us(1000000);    /* who reads opens the stream meanwhile */
        pace(b, i, began + 1000000000);
        s = js_PublishAsync(js, "BENCH.x", text, make_event(b, i, text, sizeof text), NULL);
        if (b->rate)
            natsConnection_Flush(connection);
    }
    if (s != NATS_OK || js_PublishAsyncComplete(js, NULL) != NATS_OK)
        give_up("publish");
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
}

static void send_all(const struct bench *b)
{
    int senders = !strcmp(b->kind, "clients") ? CLIENTS : 1;
    for (int i = 0; i < senders; i++) {
        pid_t child = fork();
        if (child < 0)
            give_up("fork");
        if (child)
            continue;
        if (!strcmp(b->kind, "nats"))
            send_nats(b);
        else
            send_lines(b, open_target(b), b->count / (uint64_t)senders);
        _exit(0);
    }
}

/* ---- who reads ------------------------------------------------------------------------------- */

static struct event_source *open_source(const struct bench *b)
{
    struct akin_watch_source settings;
    struct event_source *source = NULL;
    struct akin_error error;
    bool nats = !strcmp(b->kind, "nats");
    bool socket = !strcmp(b->kind, "socket") || !strcmp(b->kind, "clients");
    source_settings_default(nats     ? AKIN_SOURCE_NATS
                            : socket ? AKIN_SOURCE_SOCKET
                                     : AKIN_SOURCE_LINES, &settings);
    settings.address = nats ? b->url : b->path;
    settings.stream = "BENCH";
    settings.plain = b->plain;
    settings.follow = !strcmp(b->kind, "follow");
    if (source_open(&settings, "", (struct source_note){0}, &source, &error) != AKIN_OK) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    return source;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void read_all(const struct bench *b, struct event_source *source)
{
    struct event event = {0};
    struct akin_error error;
    double *late_ms = memory_alloc(b->count, sizeof *late_ms);
    uint64_t count = 0, began = clock_monotonic_ns(), last = began, cpu = clock_process_cpu_ns();
    if (!late_ms)
        give_up("memory");
    while (count < b->count && seconds_since(began) < SECONDS_MAX) {
        enum source_state state;
        if (source->next(source, 100, &event, &state, &error) != AKIN_OK || state == SOURCE_END)
            break;
        if (state != SOURCE_EVENT)
            continue;
        last = clock_monotonic_ns();
        late_ms[count] = ((double)last - strtod(b->plain ? event.text : event.time, NULL)) * 1e-6;
        if (++count % GROUP == 0 || b->rate)
            source->stored(source, count, &error);
    }
    source->stored(source, count, &error);
    printf("%s: %llu of %llu events", b->kind, (unsigned long long)count,
           (unsigned long long)b->count);
    if (count && b->rate) {
        qsort(late_ms, count, sizeof *late_ms, by_number);
        printf(", %llu/s: %.3f ms from sender to reader, p99 %.3f ms, at most %.3f ms\n",
               (unsigned long long)b->rate, late_ms[count / 2], late_ms[count * 99 / 100],
               late_ms[count - 1]);
    } else {
        printf(", %.0f events/s, CPU us an event %.2f\n",
               (double)count / ((double)(last - began) * 1e-9),
               (double)(clock_process_cpu_ns() - cpu) * 1e-3 / (double)count);
    }
    event_clear(&event);
    memory_free(late_ms);
}

int main(int count, char **arguments)
{
    struct bench b = {.folder = "/tmp/akin_bench_XXXXXX"};
    if (count < 3) {
        fprintf(stderr, "usage: linesbench KIND COUNT [RATE [URL]]\n");
        return 2;
    }
    b.kind = arguments[1];
    b.count = strtoull(arguments[2], NULL, 10);
    b.rate = count > 3 ? strtoull(arguments[3], NULL, 10) : 0;
    b.url = count > 4 ? arguments[4] : "nats://127.0.0.1:4222";
    b.plain = strcmp(b.kind, "jsonl") != 0;
    if (!mkdtemp(b.folder))
        give_up(b.folder);
    snprintf(b.path, sizeof b.path, "%s/events", b.folder);
    bool first = !strcmp(b.kind, "jsonl") || !strcmp(b.kind, "text")
                 || (!strcmp(b.kind, "nats") && !b.rate);
    struct event_source *source = NULL;
    if (!first && strcmp(b.kind, "nats"))
        source = open_source(&b);
    send_all(&b);
    if (first)
        wait(NULL);
    else if (!source)
        clock_sleep_us(500000);
    if (!source)
        source = open_source(&b);
    read_all(&b, source);
    source_close(&source);
    while (wait(NULL) > 0) {
    }
    path_remove_tree(b.folder, NULL);
    return 0;
}
