/* A JetStream stream as a source, at a server of its own: ids, bad events, redelivery, what is
 * taken and not stored, a server that dies, a stream and a consumer that go. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#ifdef AKIN_NATS
#include <nats/nats.h>

#include "base/clock.h"
#include "base/limits.h"
#include "source_rig.h"

enum { SKIPPED = 77, TRIES = 400 };     /* of what a server may not be ready for yet */

static struct notes notes;
static char url[64];
static pid_t server;
static natsConnection *connection;
static jsCtx *js;

/* ---- a server -------------------------------------------------------------------------------- */

static const char *program(void)
{
    static const char *const paths[] = {"/usr/sbin/nats-server", "/usr/bin/nats-server",
                                        "/usr/local/bin/nats-server"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (!access(paths[i], X_OK))
            return paths[i];
    return NULL;
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void start_server(void)
{
    char log[PATH_BYTES_MAX];
    snprintf(log, sizeof log, "%.64s/server.log", folder);
    server = fork();
    assert_true(server >= 0);
    if (!server) {
        execl(program(), "nats-server", "-c", path, "-l", log, (char *)NULL);
        _exit(127);
    }
}

static void kill_server(void)
{
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    server = 0;
}

static int set_up(void **state)
{
    if (make_folder(state))
        return -1;
    int port = free_port();
    snprintf(url, sizeof url, "nats://me:secret@127.0.0.1:%d", port);
    FILE *config = fopen(path, "w");
    if (!config)
        return -1;
    fprintf(config, "listen: \"127.0.0.1:%d\"\nmax_payload: 16MB\n"
            "authorization { user: me, password: secret }\n"
            "jetstream { store_dir: \"%s/js\", max_memory_store: 256MB }\n", port, folder);
    fclose(config);
    start_server();
    natsOptions *options = NULL;
    natsOptions_Create(&options);
    natsOptions_SetURL(options, url);
    natsOptions_SetMaxReconnect(options, -1);
    natsOptions_SetReconnectWait(options, 50);
    natsStatus s = NATS_ERR;
    for (int i = 0; i < TRIES && s != NATS_OK; i++) {
        s = natsConnection_Connect(&connection, options);
        if (s != NATS_OK)
            clock_sleep_us(50000);
    }
    natsOptions_Destroy(options);
    return s == NATS_OK && natsConnection_JetStream(&js, connection, NULL) == NATS_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
    if (server)
        kill_server();
    nats_CloseAndWait(1000);
    return remove_folder(state);
}

static void make_stream(const char *name)
{
    jsStreamConfig config;
    char subject[64];
    const char *subjects[] = {subject};
    snprintf(subject, sizeof subject, "%s.>", name);
    jsStreamConfig_Init(&config);
    config.Name = name;
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    natsStatus s = NATS_ERR;
    for (int i = 0; i < TRIES && (s = js_AddStream(NULL, js, &config, NULL, NULL)) != NATS_OK; i++)
        clock_sleep_us(50000);
    assert_int_equal(s, NATS_OK);
}

static void publish(const char *subject, const void *data, size_t bytes, const char *id)
{
    natsMsg *message = NULL;
    assert_int_equal(natsMsg_Create(&message, subject, NULL, data, (int)bytes), NATS_OK);
    if (id)
        natsMsgHeader_Set(message, "Nats-Msg-Id", id);
    natsStatus s = NATS_ERR;
    for (int i = 0; i < TRIES && (s = js_PublishMsg(NULL, js, message, NULL, NULL)) != NATS_OK; i++)
        clock_sleep_us(50000);
    assert_int_equal(s, NATS_OK);
    natsMsg_Destroy(message);
}

static void publish_text(const char *subject, const char *text)
{
    publish(subject, text, strlen(text), NULL);
}

static struct akin_watch_source settings_of(const char *stream)
{
    struct akin_watch_source settings;
    source_settings_default(AKIN_SOURCE_NATS, &settings);
    settings.address = url;
    settings.stream = stream;
    settings.plain = true;
    return settings;
}

static struct event_source *open_with(const struct akin_watch_source *settings)
{
    struct event_source *source = NULL;
    struct akin_error error = {0};
    if (source_open(settings, "", notes_begin(&notes), &source, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    return source;
}

static struct event_source *open_stream(const char *stream)
{
    struct akin_watch_source settings = settings_of(stream);
    return open_with(&settings);
}

static void expect_left(const char *stream, uint64_t pending, int64_t unacknowledged)
{
    jsConsumerInfo *info = NULL;
    bool equal = false;
    for (int i = 0; i < 3000 && !equal; i++) {
        assert_int_equal(js_GetConsumerInfo(&info, js, stream, "akin", NULL, NULL), NATS_OK);
        equal = info->NumPending == pending && info->NumAckPending == unacknowledged;
        if (!equal)
            clock_sleep_us(20000);
        jsConsumerInfo_Destroy(info);
    }
    assert_true(equal);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void expect_refused(const struct akin_watch_source *settings, enum akin_status status,
                           const char *word)
{
    struct event_source *source = NULL;
    struct akin_error error;
    assert_int_equal(source_open(settings, "", notes_begin(&notes), &source, &error), status);
    assert_null(source);
    assert_non_null(strstr(error.message, word));
}

static void what_cannot_be_opened_is_said(void **state)
{
    struct akin_watch_source settings = settings_of("NONE");
    struct akin_error error;
    jsConsumerConfig config;
    (void)state;
    expect_refused(&settings, AKIN_NOT_FOUND, "nats stream add NONE");
    settings.stream = "a.b";
    expect_refused(&settings, AKIN_ARGUMENT, "a.b");
    settings.stream = "BAD";
    settings.consumer = "a b";
    expect_refused(&settings, AKIN_ARGUMENT, "a b");
    settings = settings_of("BAD");
    settings.address = "nats://127.0.0.1:1";
    expect_refused(&settings, AKIN_NETWORK, "127.0.0.1:1");
    settings.address = "nats://me:secret@127.0.0.1:1,nats://token@127.0.0.1:2";
    assert_int_equal(source_open(&settings, "", notes_begin(&notes), &(struct event_source *){NULL},
                                 &error), AKIN_NETWORK);
    assert_non_null(strstr(error.message, "nats://127.0.0.1:1,nats://127.0.0.1:2"));
    assert_null(strstr(error.message, "secret"));
    settings.address = " , ";
    expect_refused(&settings, AKIN_ARGUMENT, "nats://HOST:PORT");
    make_stream("BAD");
    jsConsumerConfig_Init(&config);
    config.Durable = "none";
    config.AckPolicy = js_AckNone;
    assert_int_equal(js_AddConsumer(NULL, js, "BAD", &config, NULL, NULL), NATS_OK);
    settings = settings_of("BAD");
    settings.consumer = "none";
    expect_refused(&settings, AKIN_ARGUMENT, "explicit");
    jsConsumerConfig_Init(&config);
    config.Durable = "pushed";
    config.DeliverSubject = "somewhere";
    assert_int_equal(js_AddConsumer(NULL, js, "BAD", &config, NULL, NULL), NATS_OK);
    settings.consumer = "pushed";
    expect_refused(&settings, AKIN_ARGUMENT, "pushed");
    settings = settings_of("BAD");
    settings.subject = "BAD.x";
    struct event_source *s = open_with(&settings);
    source_close(&s);
    settings.subject = "BAD.y";
    expect_refused(&settings, AKIN_ARGUMENT, "BAD.x");
}

static void events_have_ids_and_bad_ones_go(void **state)
{
    struct akin_watch_source settings = settings_of("KINDS");
    enum { LARGER = 10 << 20 };     /* than what is pulled at once */
    char *large = malloc(LARGER);
    (void)state;
    assert_non_null(large);
    memset(large, 'x', LARGER);
    make_stream("KINDS");
    publish("KINDS.a", "{\"text\":\"one\"}\n", 15, "id-1");
    publish_text("KINDS.b", "{\"text\":\"two\",\"uid\":7}");
    publish_text("KINDS.a", "no json");
    publish("KINDS.a", "", 0, NULL);
    publish("KINDS.a", large, EVENT_BYTES_MAX + 1, NULL);
    publish("KINDS.a", "{\"text\":\"\xff\"}", 12, NULL);
    publish("KINDS.a", large, LARGER, NULL);
    publish_text("KINDS.a", "{\"text\":\"three\",\"uid\":8,\"seq\":70}");
    settings.plain = false;
    settings.fields.id = "uid";
    struct event_source *s = open_with(&settings);
    assert_true(s->waits);
    assert_string_equal(s->name, "nats:KINDS/akin");
    struct got one = wait_for(s);
    assert_string_equal(one.text, "one");
    assert_string_equal(one.id, "id-1");
    assert_string_equal(one.cursor, "");
    struct got two = wait_for(s);
    assert_string_equal(two.text, "two");
    assert_string_equal(two.id, "7");
    assert_int_equal(two.seq, 1);
    for (int i = 3; i <= 7; i++) {
        char place[32];
        snprintf(place, sizeof place, "KINDS:%d", i);
        struct got bad = wait_for(s);
        assert_int_equal(bad.state, SOURCE_BAD);
        assert_non_null(strstr(bad.error.message, place));
    }
    assert_int_equal(wait_for(s).seq, 70);
    assert_int_equal(next_of(s, 50).state, SOURCE_QUIET);
    expect_left("KINDS", 0, 3);
    assert_int_equal(s->stored(s, 3, NULL), AKIN_OK);
    expect_left("KINDS", 0, 0);
    source_close(&s);
    free(large);
}

static void what_is_not_stored_comes_again(void **state)
{
    struct got first[10];
    char text[16];
    (void)state;
    make_stream("AGAIN");
    for (int i = 0; i < 10; i++) {
        snprintf(text, sizeof text, "event %d", i);
        publish_text("AGAIN.x", text);
    }
    struct event_source *s = open_stream("AGAIN");
    for (int i = 0; i < 10; i++) {
        first[i] = wait_for(s);
        assert_int_equal(first[i].seq, i);
    }
    assert_int_equal(s->stored(s, 4, NULL), AKIN_OK);
    source_close(&s);               /* gives the others back at once, not after the ack wait */
    s = open_stream("AGAIN");
    bool seen[10] = {false};
    for (int i = 4; i < 10; i++) {
        struct got again = wait_for(s);
        assert_int_equal(again.state, SOURCE_EVENT);
        assert_true(again.seq >= 4 && again.seq < 10 && !seen[again.seq]);
        seen[again.seq] = true;
        assert_string_equal(again.id, first[again.seq].id);
    }
    assert_int_equal(next_of(s, 100).state, SOURCE_QUIET);
    assert_int_equal(s->stored(s, 6, NULL), AKIN_OK);
    expect_left("AGAIN", 0, 0);
    source_close(&s);
}

static void a_slow_store_keeps_its_events(void **state)
{
    jsConsumerConfig config;
    (void)state;
    make_stream("SLOW");
    jsConsumerConfig_Init(&config);
    config.Durable = "akin";
    config.AckPolicy = js_AckExplicit;
    config.AckWait = 1500 * INT64_C(1000000);
    assert_int_equal(js_AddConsumer(NULL, js, "SLOW", &config, NULL, NULL), NATS_OK);
    publish_text("SLOW.x", "a");
    struct event_source *s = open_stream("SLOW"), *other = open_stream("SLOW");
    expect(s, "a");
    for (int i = 0; i < 80; i++) {
        assert_int_equal(next_of(s, 25).state, SOURCE_QUIET);
        assert_int_equal(next_of(other, 25).state, SOURCE_QUIET);
    }
    for (int i = 0; i < TRIES; i++)     /* one that does nothing any more loses it to the other */
        if (next_of(other, 50).state == SOURCE_EVENT)
            break;
    expect_left("SLOW", 0, 1);
    assert_int_equal(other->stored(other, 1, NULL), AKIN_OK);
    expect_left("SLOW", 0, 0);
    source_close(&other);
    source_close(&s);
}

static void only_so_many_are_taken(void **state)
{
    enum { MORE = 700, ALL = NATS_IN_FLIGHT_MAX + MORE };
    uint64_t taken = 0;
    (void)state;
    make_stream("MANY");
    for (int i = 0; i < ALL; i++)
        assert_int_equal(js_PublishAsync(js, "MANY.x", "x", 1, NULL), NATS_OK);
    jsPubOptions wait;
    jsPubOptions_Init(&wait);
    wait.MaxWait = 20000;
    assert_int_equal(js_PublishAsyncComplete(js, &wait), NATS_OK);
    struct event_source *s = open_stream("MANY");
    while (wait_for(s).state == SOURCE_EVENT && taken < NATS_IN_FLIGHT_MAX)
        if (++taken == NATS_IN_FLIGHT_MAX)
            break;
    assert_int_equal(taken, NATS_IN_FLIGHT_MAX);
    assert_int_equal(next_of(s, 200).state, SOURCE_QUIET);
    assert_int_equal(s->stored(s, taken, NULL), AKIN_OK);
    for (int i = 0; i < MORE; i++)
        assert_int_equal(wait_for(s).state, SOURCE_EVENT);
    assert_int_equal(s->stored(s, ALL, NULL), AKIN_OK);
    expect_left("MANY", 0, 0);
    source_close(&s);
}

static void a_server_that_dies_is_waited_for(void **state)
{
    (void)state;
    make_stream("DIES");
    publish_text("DIES.x", "before");
    struct event_source *s = open_stream("DIES");
    struct got before = wait_for(s);
    assert_string_equal(before.text, "before");
    kill_server();
    for (int i = 0; i < TRIES && !strstr(notes.text, "lost"); i++)
        assert_int_equal(next_of(s, 50).state, SOURCE_QUIET);
    for (int i = 0; i < 10; i++)
        assert_int_equal(next_of(s, 50).state, SOURCE_QUIET);
    assert_non_null(strstr(notes.text, "lost"));
    assert_ptr_equal(strstr(notes.text, "lost"), strrchr(notes.text, 'l'));     /* told once */
    start_server();
    assert_int_equal(s->stored(s, 1, NULL), AKIN_OK);   /* goes out when there is a way */
    publish("DIES.x", "after", strlen("after"), "once");    /* it may be tried again */
    uint64_t ticket = 2;
    struct got next = wait_for(s);
    if (!strcmp(next.id, before.id)) {      /* the server may have forgotten that it was here */
        next = wait_for(s);
        ticket++;
    }
    assert_string_equal(next.text, "after");
    assert_non_null(strstr(notes.text, "come again"));
    assert_int_equal(s->stored(s, ticket, NULL), AKIN_OK);
    expect_left("DIES", 0, 0);
    source_close(&s);
}

static void streams_and_consumers_may_go(void **state)
{
    (void)state;
    make_stream("GOES");
    publish_text("GOES.x", "one");
    struct event_source *s = open_stream("GOES");
    struct got one = wait_for(s);
    assert_string_equal(one.text, "one");
    assert_int_equal(s->stored(s, 1, NULL), AKIN_OK);
    expect_left("GOES", 0, 0);
    assert_int_equal(js_DeleteConsumer(js, "GOES", "akin", NULL, NULL), NATS_OK);
    struct got again = wait_for(s);         /* from the start: the store knows its id */
    assert_string_equal(again.text, "one");
    assert_string_equal(again.id, one.id);
    assert_non_null(strstr(notes.text, "made again"));
    assert_int_equal(js_DeleteStream(js, "GOES", NULL, NULL), NATS_OK);
    for (int i = 0; i < TRIES && !strstr(notes.text, "is not there"); i++)
        assert_int_equal(next_of(s, 100).state, SOURCE_QUIET);
    assert_non_null(strstr(notes.text, "is not there"));
    make_stream("GOES");
    publish_text("GOES.x", "two");
    struct got two = wait_for(s);
    assert_string_equal(two.text, "two");
    assert_int_equal(two.seq, one.seq);
    assert_string_not_equal(two.id, one.id);    /* the same number of another stream */
    source_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_opened_is_said),
        cmocka_unit_test(events_have_ids_and_bad_ones_go),
        cmocka_unit_test(what_is_not_stored_comes_again),
        cmocka_unit_test(a_slow_store_keeps_its_events),
        cmocka_unit_test(only_so_many_are_taken),
        cmocka_unit_test(a_server_that_dies_is_waited_for),
        cmocka_unit_test(streams_and_consumers_may_go),
    };
    if (!program()) {
        printf("skipped: no nats-server here (Debian's package nats-server)\n");
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
#else
int main(void)
{
    return 77;      /* built without libnats */
}
#endif
