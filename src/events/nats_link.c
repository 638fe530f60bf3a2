/* libnats: connection, stream and consumer. */
#include "events/nats_link.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum {
    SERVERS_MAX = 64,
    CONNECT_MS = 2000,
    ASK_MS = 2000,
    RECONNECT_MS = 250,         /* and as much again, by chance */
    PING_MS = 5000,             /* a server that says nothing to two of them is gone */
    ACK_PENDING_MAX = 16384,    /* of all who share the consumer */
    ACK_WAIT_S = 30,
};

/* What the library says, without the place in its source that it puts before. */
static const char *problem(natsStatus status)
{
    natsStatus last = NATS_OK;
    const char *text = nats_GetLastError(&last), *behind = text ? strstr(text, "): ") : NULL;
    if (behind && *text == '(')
        text = behind + 3;
    return text && *text && last == status ? text : natsStatus_GetText(status);
}

/* Without one, the library writes to standard error. What it tells is seen in the status, too. */
static void ignore(natsConnection *connection, natsSubscription *subscription, natsStatus status,
                   void *closure)
{
    (void)connection;
    (void)subscription;
    (void)status;
    (void)closure;
}

/* ---- connecting ------------------------------------------------------------------------------ */

/* What stands before an @ is secret. */
static void show_servers(struct nats_link *link)
{
    size_t used = 0;
    link->shown[0] = 0;
    for (const char *from = link->servers; *from && used < sizeof link->shown;) {
        size_t length = strcspn(from, ",");
        const char *at = memrchr(from, '@', length), *scheme = memmem(from, length, "://", 3);
        const char *rest = at ? at + 1 : from;
        int kept = at && scheme && scheme < at ? (int)(scheme - from) + 3 : 0;
        used += (size_t)snprintf(link->shown + used, sizeof link->shown - used, "%s%.*s%.*s",
                                 used ? "," : "", kept, from, (int)(from + length - rest), rest);
        from += length + (from[length] == ',');
    }
}

static enum akin_status set_servers(natsOptions *options, const char *servers, const char *shown,
                                    struct akin_error *error)
{
    const char *list[SERVERS_MAX];
    int count = 0;
    char *texts = memory_copy_string(servers), *rest = texts, *one;
    natsStatus s = NATS_OK;
    if (!texts)
        return error_memory(error);
    while ((one = strsep(&rest, ", ")) && count < SERVERS_MAX)
        if (*one)
            list[count++] = one;
    s = count ? natsOptions_SetServers(options, list, count) : NATS_ADDRESS_MISSING;
    memory_free(texts);
    if (s == NATS_OK)
        return AKIN_OK;
    return error_set(error, AKIN_ARGUMENT, "address: \"%.200s\": %s: servers are written as "
                     "nats://HOST:PORT, with commas between", shown, natsStatus_GetText(s));
}

static natsStatus set_options(natsOptions *options)
{
    natsStatus s = natsOptions_SetName(options, "akin");
    if (s == NATS_OK)
        s = natsOptions_SetErrorHandler(options, ignore, NULL);
    if (s == NATS_OK)
        s = natsOptions_SetTimeout(options, CONNECT_MS);
    if (s == NATS_OK)
        s = natsOptions_SetMaxReconnect(options, -1);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectWait(options, RECONNECT_MS);
    if (s == NATS_OK)
        s = natsOptions_SetReconnectJitter(options, RECONNECT_MS, RECONNECT_MS);
    if (s == NATS_OK)
        s = natsOptions_SetPingInterval(options, PING_MS);
    return s == NATS_OK ? natsOptions_SetMaxPingsOut(options, 2) : s;
}

enum akin_status nats_link_open(struct nats_link *link, struct akin_error *error)
{
    natsOptions *options = NULL;
    jsOptions js;
    natsStatus s = natsOptions_Create(&options);
    if (s == NATS_OK)
        s = set_options(options);
    if (s != NATS_OK) {
        natsOptions_Destroy(options);
        return error_memory(error);
    }
    show_servers(link);
    enum akin_status status = set_servers(options, link->servers, link->shown, error);
    if (status == AKIN_OK) {
        s = natsConnection_Connect(&link->connection, options);
        if (s != NATS_OK)
            status = error_set(error, AKIN_NETWORK, "%.200s: %s: does a nats-server listen there?",
                               link->shown, problem(s));
    }
    natsOptions_Destroy(options);
    TRY(status);
    jsOptions_Init(&js);
    js.Wait = ASK_MS;
    s = natsConnection_JetStream(&link->js, link->connection, &js);
    if (s == NATS_OK)
        s = natsInbox_Create(&link->reply);
    if (s == NATS_OK)
        s = natsConnection_SubscribeSync(&link->inbox, link->connection, link->reply);
    if (s == NATS_OK)
        s = natsSubscription_SetPendingLimits(link->inbox, -1, -1);     /* we bound what we pull */
    if (s == NATS_OK)
        s = natsStatistics_Create(&link->statistics);
    if (s != NATS_OK)
        return error_set(error, AKIN_NETWORK, "%.200s: %s", link->shown, problem(s));
    return AKIN_OK;
}

void nats_link_close(struct nats_link *link)
{
    natsStatistics_Destroy(link->statistics);
    natsSubscription_Destroy(link->inbox);
    natsInbox_Destroy(link->reply);
    jsCtx_Destroy(link->js);
    natsConnection_Destroy(link->connection);
    link->statistics = NULL;
    link->inbox = NULL;
    link->reply = NULL;
    link->js = NULL;
    link->connection = NULL;
}

bool nats_link_is_up(struct nats_link *link)
{
    return link->connection
           && natsConnection_Status(link->connection) == NATS_CONN_STATUS_CONNECTED;
}

bool nats_link_is_closed(struct nats_link *link)
{
    return !link->connection || natsConnection_IsClosed(link->connection);
}

uint64_t nats_link_reconnects(struct nats_link *link)
{
    uint64_t count = 0;
    if (link->connection && natsConnection_GetStats(link->connection, link->statistics) == NATS_OK)
        natsStatistics_GetCounts(link->statistics, NULL, NULL, NULL, NULL, &count);
    return count;
}

/* ---- stream and consumer --------------------------------------------------------------------- */

static enum akin_status not_now(const struct nats_link *link, natsStatus s,
                                struct akin_error *error)
{
    return error_set(error, AKIN_NETWORK, "stream %s of %.200s: %s", link->stream, link->shown,
                     problem(s));
}

static enum akin_status find_stream(struct nats_link *link, struct akin_error *error)
{
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus s = js_GetStreamInfo(&info, link->js, link->stream, NULL, &code);
    link->without_jetstream = false;
    if (s == NATS_OK) {
        link->created = info->Created;
        jsStreamInfo_Destroy(info);
        return AKIN_OK;
    }
    if (code == JSStreamNotFoundErr)
        return error_set(error, AKIN_NOT_FOUND, "stream %s: is not there; make it first, such as "
                         "by nats stream add %s --subjects 'events.>' --storage file --replicas 3",
                         link->stream, link->stream);
    link->without_jetstream = code == JSNotEnabledErr || code == JSNotEnabledForAccountErr ||
                              s == NATS_NO_RESPONDERS;
    if (link->without_jetstream)
        return error_set(error, AKIN_NETWORK, "%.200s: JetStream is not there: start nats-server "
                         "with -js, or enable it for the account", link->shown);
    return not_now(link, s, error);
}

static enum akin_status check(struct nats_link *link, const jsConsumerConfig *c,
                              struct akin_error *error)
{
    const char *filter = c->FilterSubject ? c->FilterSubject : "";
    if (c->DeliverSubject && *c->DeliverSubject)
        return error_set(error, AKIN_ARGUMENT, "consumer %s of stream %s: is pushed to, not pulled "
                         "from: name another one", link->consumer, link->stream);
    if (c->AckPolicy != js_AckExplicit)
        return error_set(error, AKIN_ARGUMENT, "consumer %s of stream %s: its acknowledgements are "
                         "not explicit: name another one", link->consumer, link->stream);
    if (link->subject && strcmp(link->subject, filter))
        return error_set(error, AKIN_ARGUMENT, "consumer %s of stream %s: its subject is \"%s\", "
                         "not \"%s\": name another consumer, or the same subject", link->consumer,
                         link->stream, filter, link->subject);
    link->ack_wait_ns = c->AckWait > 0 ? c->AckWait : ACK_WAIT_S * INT64_C(1000000000);
    link->deliveries_max = c->MaxDeliver;
    return AKIN_OK;
}

static natsStatus make(struct nats_link *link, jsConsumerInfo **info, jsErrCode *code)
{
    jsConsumerConfig config;
    jsConsumerConfig_Init(&config);
    config.Durable = link->consumer;
    config.Description = "akin watch";
    config.DeliverPolicy = js_DeliverAll;
    config.AckPolicy = js_AckExplicit;
    config.AckWait = ACK_WAIT_S * INT64_C(1000000000);
    config.MaxDeliver = -1;
    config.MaxAckPending = ACK_PENDING_MAX;
    config.FilterSubject = link->subject;
    return js_AddConsumer(info, link->js, link->stream, &config, NULL, code);
}

enum akin_status nats_link_find(struct nats_link *link, bool *made, struct akin_error *error)
{
    jsConsumerInfo *info = NULL;
    jsErrCode code = 0;
    TRY(find_stream(link, error));
    natsStatus s = js_GetConsumerInfo(&info, link->js, link->stream, link->consumer, NULL, &code);
    *made = s != NATS_OK && code == JSConsumerNotFoundErr;
    if (*made)
        s = make(link, &info, &code);
    if (s != NATS_OK && code >= 10000 && code != JSClusterNotAvailErr
        && code != JSClusterNotLeaderErr && code != JSInsufficientResourcesErr)
        return error_set(error, AKIN_ARGUMENT, "consumer %s of stream %s: %s", link->consumer,
                         link->stream, problem(s));
    if (s != NATS_OK)
        return not_now(link, s, error);
    enum akin_status status = check(link, info->Config, error);
    jsConsumerInfo_Destroy(info);
    return status;
}

natsStatus nats_link_pull(struct nats_link *link, uint64_t batch, uint64_t bytes_max,
                          uint64_t expires_ns, uint64_t heartbeat_ns)
{
    struct bytes subject = {0}, request = {0};
    bytes_printf(&subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", link->stream, link->consumer);
    bytes_printf(&request, "{\"batch\":%llu,\"expires\":%llu,\"idle_heartbeat\":%llu",
                 (unsigned long long)batch, (unsigned long long)expires_ns,
                 (unsigned long long)heartbeat_ns);
    if (bytes_max)
        bytes_printf(&request, ",\"max_bytes\":%llu", (unsigned long long)bytes_max);
    bytes_printf(&request, "}");
    natsStatus s = subject.failed || request.failed
                       ? NATS_NO_MEMORY
                       : natsConnection_PublishRequest(link->connection, subject.data, link->reply,
                                                       request.data, (int)request.count);
    bytes_deinit(&subject);
    bytes_deinit(&request);
    return s;
}
