/* What nats_cluster.py runs beside akin: makes a stream, publishes to it, and tells what is left
 * there.
 *
 *   nats_client stream URLS NAME REPLICAS            prints the server that leads it
 *   nats_client consumer URLS STREAM NAME WAIT_MS    a durable one, whose ack wait is short
 *   nats_client publish URLS STREAM FIRST LAST       ids FIRST to LAST, each acknowledged
 *   nats_client left URLS STREAM CONSUMER            prints events not delivered, not acknowledged
 */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { TRIES = 600, ASK_MS = 1000 };

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "nats_client: %s: %s\n", what, why);
    return 1;
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
        s = natsOptions_SetPingInterval(options, 1000);
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
    if (count < 5)
        return fail("usage", "see the top of nats_client.c");
    return with_servers(arguments[1], arguments + 2);
}
