/* How fast events come from a bus and from a journal, each of the program's own:
 *
 *     sourcesbench bus COUNT         signals of about 120 bytes, said as fast as the bus takes them
 *     sourcesbench journal COUNT     entries with five fields, read from the first to the last
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "events/source_dbus.h"
#include "events/source_journal.h"
#include "unit/bus_rig.h"
#include "unit/journal_rig.h"

static void hear(void *cookie, const char *source, const char *line)
{
    (void)cookie;
    fprintf(stderr, "%s: %s\n", source, line);
}

static const struct source_note note = {.tell = hear};

/* The most memory that a process has had, in kB. */
static long peak_kb(pid_t pid)
{
    char path[64], line[256];
    long kb = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %ld", &kb) == 1)
            break;
    if (file)
        fclose(file);
    return kb;
}

/* Until `count` came or nothing comes any more. */
static void take(struct event_source *source, uint64_t count, const char *begins)
{
    struct event event = {0};
    enum source_state state;
    uint64_t events = 0, texts = 0, began = 0, ended = 0, cpu = 0;
    while (events < count && source->next(source, 5000, &event, &state, NULL) == AKIN_OK
           && state != SOURCE_QUIET) {
        if (state != SOURCE_EVENT || strncmp(event.text, begins, strlen(begins)))
            continue;
        if (!events++) {
            began = clock_monotonic_ns();
            cpu = clock_process_cpu_ns();
        }
        texts += event.text_bytes;
        ended = clock_monotonic_ns();
    }
    double seconds = (double)(ended - began) * 1e-9;
    printf(
        "events %llu of %llu, lost %llu, bytes a text %.0f, events/s %.0f, CPU us an event %.2f\n",
        (unsigned long long)events, (unsigned long long)count, (unsigned long long)source->lost,
        events ? (double)texts / (double)events : 0, (double)events / seconds,
        (double)(clock_process_cpu_ns() - cpu) * 1e-3 / (double)events);
    event_clear(&event);
}

static int bench_bus(uint64_t count)
{
    struct bus bus = {.folder = "/tmp/akin_bench_XXXXXX"};
    struct akin_watch_source settings = {.kind = AKIN_SOURCE_DBUS, .name = "bus"};
    struct event_source *source;
    struct akin_error error;
    if (!mkdtemp(bus.folder) || !bus_start(&bus, ""))
        return 1;
    settings.address = bus.address;
    if (source_dbus_open(&settings, "", note, &source, &error) != AKIN_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    pid_t child = bus_flood(&bus, (unsigned)count,
                            "a text of about one hundred bytes, which is what "
                            "a service says when something happens to it");
    take(source, count, "org.akin.Test");
    printf("dbus-daemon's memory at most %ld kB\n", peak_kb(bus.pid));
    bool flooded = bus_flooded(child);
    source->close(source);
    bus_stop(&bus);
    path_remove_tree(bus.folder, NULL);
    return !flooded;
}

static int bench_journal(uint64_t count)
{
    char folder[] = "/tmp/akin_bench_XXXXXX", file[128];
    struct akin_watch_source settings = {.kind = AKIN_SOURCE_JOURNAL, .name = "journal",
                                         .address = folder, .priority = 7};
    struct event_source *source;
    struct akin_error error;
    if (!mkdtemp(folder))
        return 1;
    snprintf(file, sizeof file, "%s/a.journal", folder);
    if (!journal_write_entries(file, 0, (unsigned)count, 1))
        return 1;
    if (source_journal_open(&settings, "t=0", note, &source, &error) != AKIN_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    take(source, count, "event");
    source->close(source);
    path_remove_tree(folder, NULL);
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 3 && !strcmp(arguments[1], "bus"))
        return bench_bus(strtoull(arguments[2], NULL, 10));
    if (count == 3 && !strcmp(arguments[1], "journal"))
        return bench_journal(strtoull(arguments[2], NULL, 10));
    fprintf(stderr, "usage: sourcesbench bus|journal COUNT\n");
    return 2;
}
