/* Alarms as signals of D-Bus: Alert(s json) of interface org.akin.Watch1 from object
 * /org/akin/Watch, by sd-bus. Each is followed by a question to the bus, and has arrived when that
 * is answered: a bus keeps order. A bus that goes away is connected to again. */
#include "watch/alert_outlet.h"

#ifndef AKIN_SYSTEMD

enum akin_status alert_bus_open(const char *address, struct alert_sink **sink,
                                struct akin_error *error)
{
    (void)sink;
    return error_set(error, AKIN_UNSUPPORTED,
                     "%s: alarms cannot go to a bus: akin was built without libsystemd "
                     "(-DAKIN_SYSTEMD=ON)", address);
}

#else

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/clock.h"
#include "base/memory.h"

enum { SLICE_US = 50000, ANSWER_SECONDS = 10 };

struct bus_sink {
    struct alert_sink sink;
    char *address;
    sd_bus *bus;                /* NULL: not connected */
    bool answered;
    int answer;                 /* 0, or the error of the question */
};

static void leave(struct bus_sink *b)
{
    b->bus = sd_bus_close_unref(b->bus);
}

static int join(struct bus_sink *b)
{
    if (!strcmp(b->address, "system"))
        return sd_bus_open_system(&b->bus);
    if (!strcmp(b->address, "session"))
        return sd_bus_open_user(&b->bus);
    int result = sd_bus_new(&b->bus);
    if (result >= 0)
        result = sd_bus_set_address(b->bus, b->address);
    if (result >= 0)
        result = sd_bus_set_bus_client(b->bus, true);
    return result >= 0 ? sd_bus_start(b->bus) : result;
}

static int on_answer(sd_bus_message *message, void *context, sd_bus_error *problem)
{
    struct bus_sink *b = context;
    (void)problem;
    b->answered = true;
    b->answer = -sd_bus_message_get_errno(message);
    return 0;
}

/* Signal and question, and the answer waited for: 0, or what is wrong (negative). */
static int signal_and_ask(struct bus_sink *b, char *line, size_t bytes, const atomic_bool *stop)
{
    sd_bus_slot *slot = NULL;
    uint64_t began = clock_monotonic_ns();
    line[bytes - 1] = 0;        /* without its line end */
    int result = sd_bus_emit_signal(b->bus, "/org/akin/Watch", "org.akin.Watch1", "Alert", "s",
                                    line);
    line[bytes - 1] = '\n';
    b->answered = false;
    if (result >= 0)
        result = sd_bus_call_method_async(b->bus, &slot, "org.freedesktop.DBus",
                                          "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                          "GetId", on_answer, b, "");
    while (result >= 0 && !b->answered) {
        result = sd_bus_process(b->bus, NULL);
        if (result == 0)
            result = sd_bus_wait(b->bus, SLICE_US);
        if (result == -EINTR)   /* a signal of the host's */
            result = 0;
        if (result >= 0 && !b->answered && seconds_since(began) > ANSWER_SECONDS)
            result = -ETIMEDOUT;
        if (atomic_load(stop) && !b->answered)
            result = -ECANCELED;
    }
    sd_bus_slot_unref(slot);
    return result >= 0 ? b->answer : result;
}

static enum sink_result bus_send(struct alert_sink *sink, char *line, size_t bytes,
                                 const atomic_bool *stop, struct akin_error *error)
{
    struct bus_sink *b = (struct bus_sink *)sink;
    int result = b->bus ? 0 : join(b);
    if (result >= 0)
        result = signal_and_ask(b, line, bytes, stop);
    if (result >= 0)
        return SINK_TOOK;
    errno = -result;
    error_system(error, "%s", b->address);
    if (result == -EINVAL && b->bus && sd_bus_is_open(b->bus) > 0)
        return SINK_REFUSED;    /* not a text that a bus takes */
    leave(b);
    return SINK_AGAIN;
}

static void bus_close(struct alert_sink *sink)
{
    struct bus_sink *b = (struct bus_sink *)sink;
    leave(b);
    memory_free(b->address);
    memory_free(b);
}

enum akin_status alert_bus_open(const char *address, struct alert_sink **sink,
                                struct akin_error *error)
{
    struct bus_sink *b = memory_alloc(1, sizeof *b);
    if (!b)
        return error_memory(error);
    b->sink = (struct alert_sink){ .send = bus_send, .close = bus_close, .pause_first_ms = 100,
                                   .pause_max_ms = 5000 };
    snprintf(b->sink.name, sizeof b->sink.name, "bus %.200s", address);
    b->address = memory_copy_string(address);
    if (b->address && (!strcmp(address, "system") || !strcmp(address, "session") ||
                       strchr(address, ':'))) {
        *sink = &b->sink;
        return AKIN_OK;
    }
    enum akin_status status = b->address
                                  ? error_set(error, AKIN_ARGUMENT,
                                              "'%s': a bus is system, session or an address such "
                                              "as unix:path=/run/bus", address)
                                  : error_memory(error);
    bus_close(&b->sink);
    return status;
}

#endif
