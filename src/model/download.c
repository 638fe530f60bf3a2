/* HTTP with libcurl's easy interface. */
#include "model/download.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "akin/akin.h"

enum { PAUSE_FIRST_MS = 250, PAUSE_MAX_MS = 8000, PAUSE_SLICE_MS = 100, CONNECT_SECONDS = 30,
       REDIRECTS_MAX = 10 };

struct downloader {
    CURL *curl;
    struct downloader_settings settings;
    char reason[CURL_ERROR_SIZE];
    /* the transfer in progress */
    const char *stage;
    int fd;                     /* -1: into text */
    struct bytes *text;
    uint64_t at;                /* bytes in the file or the text */
    uint64_t bytes_max;         /* most that are wanted */
    uint64_t total;             /* for progress; 0: unknown */
    bool begun;                 /* the body of the current response */
    uint64_t range_start;       /* of its Content-Range; UINT64_MAX: none */
    bool too_long, wrong_range, cancelled;
    int write_errno;
};

/* ---- callbacks -------------------------------------------------------------------------- */

static bool tell(struct downloader *d)
{
    const struct akin_progress *progress = &d->settings.progress;
    if (progress->update && !progress->update(progress->cookie, d->stage, d->at, d->total))
        d->cancelled = true;
    return !d->cancelled;
}

static int on_progress(void *context, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    (void)down_total, (void)down, (void)up_total, (void)up;
    return tell(context) ? 0 : 1;
}

static size_t on_header(char *line, size_t size, size_t count, void *context)
{
    struct downloader *d = context;
    char text[256];
    snprintf(text, sizeof text, "%.*s", (int)(size * count), line);
    unsigned long long start;
    if (!strncasecmp(text, "HTTP/", 5))
        d->range_start = UINT64_MAX;    /* a new response, after a redirect */
    else if (!strncasecmp(text, "content-range:", 14) &&
             sscanf(text + 14, " bytes %llu-", &start) == 1)
        d->range_start = start;
    return size * count;
}

/* Decides where the body goes: behind what is there, or in its place. */
static bool begin_body(struct downloader *d, long code)
{
    d->begun = true;
    if (d->fd < 0)
        return true;
    if (code == 206) {
        d->wrong_range = d->range_start != d->at;
        if (d->wrong_range)
            return false;
    } else {
        d->at = 0;              /* the server sends the whole file */
    }
    if (ftruncate(d->fd, (off_t)d->at) || lseek(d->fd, (off_t)d->at, SEEK_SET) < 0) {
        d->write_errno = errno;
        return false;
    }
    return true;
}

static bool write_all(struct downloader *d, const char *data, size_t bytes)
{
    while (bytes) {
        ssize_t written = write(d->fd, data, bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            d->write_errno = errno;
            return false;
        }
        data += written;
        bytes -= (size_t)written;
        d->at += (uint64_t)written;
    }
    return true;
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct downloader *d = context;
    size_t bytes = size * count;
    long code = 0;
    curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &code);
    if (code / 100 != 2)
        return bytes;           /* an error's page: not wanted */
    if (!d->begun && !begin_body(d, code))
        return 0;
    if (bytes > d->bytes_max - d->at) {
        d->too_long = true;
        return 0;
    }
    if (d->fd >= 0)
        return write_all(d, data, bytes) ? bytes : 0;
    bytes_append(d->text, data, bytes);
    d->at += bytes;
    return d->text->failed ? 0 : bytes;
}

/* ---- create, destroy -------------------------------------------------------------------- */

enum akin_status downloader_create(const struct downloader_settings *settings,
                                   struct downloader **downloader, struct akin_error *error)
{
    struct downloader *d = memory_alloc(1, sizeof *d);
    if (!d)
        return error_memory(error);
    d->settings = *settings;
    d->fd = -1;
    d->curl = curl_easy_init();
    if (!d->curl) {
        memory_free(d);
        return error_memory(error);
    }
    CURL *curl = d->curl;
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, d->reason);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "akin/" AKIN_VERSION);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)settings->stall_seconds);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, d);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, d);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, d);
    *downloader = d;
    return AKIN_OK;
}

void downloader_destroy(struct downloader **downloader)
{
    if (!*downloader)
        return;
    curl_easy_cleanup((*downloader)->curl);
    memory_free(*downloader);
    *downloader = NULL;
}

char *download_escape(struct downloader *downloader, const char *text)
{
    char *escaped = curl_easy_escape(downloader->curl, text, 0);
    char *copy = escaped ? memory_copy_string(escaped) : NULL;
    curl_free(escaped);
    return copy;
}

/* ---- attempts --------------------------------------------------------------------------- */

/* What became of one attempt; `again` says whether another may help. */
struct outcome {
    enum akin_status status;
    bool again;
};

static struct outcome judge_code(struct downloader *d, const char *url, long code,
                                 struct akin_error *error)
{
    if (code == 404 || code == 410)
        return (struct outcome){ error_set(error, AKIN_NOT_FOUND, "%s: the server has no such file "
                                           "(HTTP %ld)", url, code), false };
    if (code == 401 || code == 403)
        return (struct outcome){error_set(error, AKIN_NETWORK,
                                          "%s: the server refuses access (HTTP "
                                          "%ld); is the name right, and the model public?",
                                          url, code),
                                false};
    if (code == 416)            /* what we hold is longer than the server's file: from the start */
        d->at = 0;
    bool again = code == 408 || code == 416 || code == 425 || code == 429 || code / 100 == 5;
    return (struct outcome){ error_set(error, AKIN_NETWORK, "%s: the server answers HTTP %ld", url,
                                       code), again };
}

static bool is_lasting(CURLcode result)
{
    switch (result) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_OUT_OF_MEMORY:
        return true;
    default:
        return false;
    }
}

static struct outcome judge(struct downloader *d, const char *url, CURLcode result,
                            struct akin_error *error)
{
    long code = 0;
    curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &code);
    if (d->cancelled)
        return (struct outcome){ error_set(error, AKIN_CANCELLED, "stopped while downloading %s",
                                           d->stage), false };
    if (d->text && d->text->failed)
        return (struct outcome){ error_memory(error), false };
    if (d->write_errno) {
        errno = d->write_errno;
        return (struct outcome){ error_system(error, "%s: cannot be written", d->stage), false };
    }
    if (d->too_long)
        return (struct outcome){ error_set(error, d->fd < 0 ? AKIN_LIMIT : AKIN_FORMAT,
                                           "%s: the server sends more than the %llu bytes expected",
                                           url, (unsigned long long)d->bytes_max), false };
    if (d->wrong_range)
        return (struct outcome){error_set(error, AKIN_NETWORK,
                                          "%s: the server sends another range "
                                          "than asked for",
                                          url),
                                true};
    if (result == CURLE_OK && code / 100 != 2)
        return judge_code(d, url, code, error);
    if (result != CURLE_OK) {
        const char *reason = d->reason[0] ? d->reason : curl_easy_strerror(result);
        long number = 0;        /* of the system's call that failed, such as connect */
        curl_easy_getinfo(d->curl, CURLINFO_OS_ERRNO, &number);
        errno = (int)number;
        bool again = !is_lasting(result);
        if (number)
            error_system(error, "%s: %s", url, reason);
        else
            error_set(error, AKIN_NETWORK, "%s: %s", url, reason);
        if (error)
            error->status = AKIN_NETWORK;
        return (struct outcome){ AKIN_NETWORK, again };
    }
    if (d->fd >= 0 && d->at < d->bytes_max)
        return (struct outcome){error_set(error, AKIN_NETWORK, "%s: only %llu of %llu bytes came",
                                          url, (unsigned long long)d->at,
                                          (unsigned long long)d->bytes_max),
                                true};
    return (struct outcome){ AKIN_OK, false };
}

static struct outcome attempt(struct downloader *d, const char *url, struct akin_error *error)
{
    d->begun = d->too_long = d->wrong_range = false;
    d->range_start = UINT64_MAX;
    d->write_errno = 0;
    d->reason[0] = 0;
    char range[32];
    snprintf(range, sizeof range, "%llu-", (unsigned long long)d->at);
    /* no If-Range: callers name the file after its checksum, so a part never belongs to another
     * version, and the checksum is verified at the end */
    bool resume = d->fd >= 0 && d->at > 0;
    curl_easy_setopt(d->curl, CURLOPT_RANGE, resume ? range : NULL);
    curl_easy_setopt(d->curl, CURLOPT_URL, url);
    return judge(d, url, curl_easy_perform(d->curl), error);
}

/* Waits, but not for a caller who wants to stop. */
static bool pause_ms(struct downloader *d, int ms)
{
    for (; ms > 0; ms -= PAUSE_SLICE_MS) {
        if (!tell(d))
            return false;
        poll(NULL, 0, ms < PAUSE_SLICE_MS ? ms : PAUSE_SLICE_MS);
    }
    return true;
}

static enum akin_status perform(struct downloader *d, const char *url, struct akin_error *error)
{
    int pause = PAUSE_FIRST_MS;
    d->cancelled = false;
    for (int tries = 0;; tries++) {
        struct akin_error problem = { 0 };
        struct outcome outcome = attempt(d, url, &problem);
        if (outcome.status == AKIN_OK)
            return AKIN_OK;
        if (!outcome.again || tries >= d->settings.retries) {
            if (error)
                *error = problem;
            return outcome.status;
        }
        if (!pause_ms(d, pause))
            return error_set(error, AKIN_CANCELLED, "stopped while downloading %s", d->stage);
        pause = pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
        if (d->text) {
            bytes_clear(d->text);
            d->at = 0;
        }
    }
}

enum akin_status download_text(struct downloader *downloader, const char *url, const char *stage,
                               size_t bytes_max, struct bytes *out, struct akin_error *error)
{
    struct downloader *d = downloader;
    d->stage = stage;
    d->fd = -1;
    d->text = out;
    d->at = d->total = 0;
    d->bytes_max = bytes_max;
    bytes_clear(out);
    enum akin_status status = perform(d, url, error);
    d->text = NULL;
    return status;
}

enum akin_status download_file(struct downloader *downloader, const char *url, const char *stage,
                               const char *path, uint64_t bytes, struct akin_error *error)
{
    struct downloader *d = downloader;
    d->stage = stage;
    d->text = NULL;
    d->bytes_max = d->total = bytes;
    d->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (d->fd < 0)
        return error_system(error, "%s: cannot be written", path);
    enum akin_status status = AKIN_OK;
    off_t end = lseek(d->fd, 0, SEEK_END);
    d->at = end > 0 && (uint64_t)end <= bytes ? (uint64_t)end : 0;  /* longer: no part of it */
    if (ftruncate(d->fd, (off_t)d->at))
        status = error_system(error, "%s: cannot be written", path);
    else if (d->at < bytes)
        status = perform(d, url, error);
    if (status == AKIN_OK && fsync(d->fd))
        status = error_system(error, "%s: cannot be made durable", path);
    close(d->fd);
    d->fd = -1;
    return status;
}
