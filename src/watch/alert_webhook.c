/* Alarms to a server: one POST of application/json each, in order. A connection that breaks, a
 * time-out, 408, 429 and 5xx are tried again with back-off, and no sooner than Retry-After asks;
 * any other answer but 2xx is final. Redirects are not followed: an alarm goes where it was told to
 * go and nowhere else. Certificates are verified. */
#include <curl/curl.h>
#include <stdio.h>

#include "akin/akin.h"
#include "base/memory.h"
#include "watch/alert_outlet.h"

enum { SLICE_MS = 50, RETRY_AFTER_SECONDS_MAX = 300, CONNECT_MS_MAX = 10000 };

struct webhook {
    struct alert_sink sink;
    CURLM *multi;
    CURL *easy;
    struct curl_slist *headers;
    char reason[CURL_ERROR_SIZE];
};

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    (void)data, (void)context;
    return size * count;        /* not wanted */
}

/* One POST, broken off when told to stop. */
static CURLcode post(struct webhook *w, const atomic_bool *stop)
{
    CURLcode result = CURLE_ABORTED_BY_CALLBACK;
    int running = 1, left;
    if (curl_multi_add_handle(w->multi, w->easy))
        return CURLE_OUT_OF_MEMORY;
    while (!atomic_load(stop) && !curl_multi_perform(w->multi, &running) && running)
        curl_multi_poll(w->multi, NULL, 0, SLICE_MS, NULL);
    for (CURLMsg *message; (message = curl_multi_info_read(w->multi, &left));)
        if (message->msg == CURLMSG_DONE)
            result = message->data.result;
    curl_multi_remove_handle(w->multi, w->easy);
    return result;
}

static bool is_lasting(CURLcode result)
{
    return result == CURLE_PEER_FAILED_VERIFICATION || result == CURLE_SSL_CACERT_BADFILE ||
           result == CURLE_UNSUPPORTED_PROTOCOL || result == CURLE_URL_MALFORMAT;
}

static enum sink_result webhook_send(struct alert_sink *sink, char *line, size_t bytes,
                                     const atomic_bool *stop, struct akin_error *error)
{
    struct webhook *w = (struct webhook *)sink;
    long code = 0;
    curl_off_t wait = 0;
    w->reason[0] = 0;
    curl_easy_setopt(w->easy, CURLOPT_POSTFIELDS, line);
    curl_easy_setopt(w->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(bytes - 1));
    CURLcode result = post(w, stop);
    if (result != CURLE_OK) {
        error_set(error, AKIN_NETWORK, "%s", w->reason[0] ? w->reason : curl_easy_strerror(result));
        return is_lasting(result) ? SINK_REFUSED : SINK_AGAIN;
    }
    curl_easy_getinfo(w->easy, CURLINFO_RESPONSE_CODE, &code);
    if (code / 100 == 2)
        return SINK_TOOK;
    error_set(error, AKIN_NETWORK, "the server answers HTTP %ld%s", code,
              code / 100 == 3 ? ", a redirect, which is not followed" : "");
    if (code != 408 && code != 429 && code / 100 != 5)
        return SINK_REFUSED;
    curl_easy_getinfo(w->easy, CURLINFO_RETRY_AFTER, &wait);
    wait = wait > RETRY_AFTER_SECONDS_MAX ? RETRY_AFTER_SECONDS_MAX : wait;
    sink->wait_ms = wait > 0 ? (unsigned)wait * 1000 : 0;
    return SINK_AGAIN;
}

static void webhook_close(struct alert_sink *sink)
{
    struct webhook *w = (struct webhook *)sink;
    curl_easy_cleanup(w->easy);
    curl_multi_cleanup(w->multi);
    curl_slist_free_all(w->headers);
    memory_free(w);
}

/* Server and port into the name; path and password may be secret. */
static enum akin_status check_url(const char *url, struct alert_sink *sink,
                                  struct akin_error *error)
{
    CURLU *parts = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool good = parts && !curl_url_set(parts, CURLUPART_URL, url, 0) &&
                !curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) &&
                !curl_url_get(parts, CURLUPART_HOST, &host, 0) &&
                !curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) &&
                (curl_strequal(scheme, "http") || curl_strequal(scheme, "https"));
    if (good)
        snprintf(sink->name, sizeof sink->name, "webhook %s://%.200s:%s", scheme, host, port);
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
    return good ? AKIN_OK
                : error_set(error, AKIN_ARGUMENT,
                            "a webhook's URL is http://... or https://...; this one is not");
}

static bool prepare(struct webhook *w, const char *url, int timeout_ms)
{
    w->multi = curl_multi_init();
    w->easy = curl_easy_init();
    w->headers = curl_slist_append(NULL, "Content-Type: application/json");
    struct curl_slist *more = w->headers ? curl_slist_append(w->headers, "Expect:") : NULL;
    if (!w->multi || !w->easy || !more)
        return false;
    CURL *curl = w->easy;
    int connect_ms = timeout_ms < CONNECT_MS_MAX ? timeout_ms : CONNECT_MS_MAX;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, w->headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, w->reason);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "akin/" AKIN_VERSION);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_ms);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_POST, 1L);
    return !curl_easy_setopt(curl, CURLOPT_URL, url);
}

enum akin_status alert_webhook_open(const char *url, int tries_max, int timeout_ms,
                                    struct alert_sink **sink, struct akin_error *error)
{
    struct webhook *w = memory_alloc(1, sizeof *w);
    if (!w)
        return error_memory(error);
    w->sink = (struct alert_sink){ .send = webhook_send, .close = webhook_close,
                                   .tries_max = tries_max, .pause_first_ms = 500,
                                   .pause_max_ms = 60000 };
    enum akin_status status = check_url(url, &w->sink, error);
    if (status == AKIN_OK && !prepare(w, url, timeout_ms))
        status = error_memory(error);
    if (status != AKIN_OK)
        webhook_close(&w->sink);
    else
        *sink = &w->sink;
    return status;
}
