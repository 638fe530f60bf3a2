/* Prints what a store of events has: store_reader count|ids|texts STORE */
#include <stdio.h>
#include <string.h>

#include "watch/event_store.h"

static bool print_id(void *cookie, const struct stored_event *event)
{
    (void)cookie;
    printf("%s\n", event->id);
    return true;
}

static bool print_text(void *cookie, const struct stored_event *event)
{
    (void)cookie;
    printf("%s\n", event->text);
    return true;
}

static bool count_one(void *cookie, const struct stored_event *event)
{
    (void)event;
    ++*(unsigned *)cookie;
    return true;
}

int main(int count, char **arguments)
{
    const struct event_filter all = {0};
    struct event_store *store = NULL;
    struct akin_error error;
    unsigned events = 0;
    if (count != 3) {
        fprintf(stderr, "usage: store_reader count|ids|texts STORE\n");
        return 2;
    }
    const struct event_store_settings settings = {.folder = arguments[2], .read_only = true};
    bool ids = !strcmp(arguments[1], "ids"), texts = !strcmp(arguments[1], "texts");
    enum akin_status status = event_store_open(&settings, (struct event_store_note){0}, &store,
                                               &error);
    if (status == AKIN_OK)
        status = event_store_read(store, 1, false, &all, ids     ? print_id
                                                         : texts ? print_text
                                                                 : count_one, &events, &error);
    if (status == AKIN_OK && !ids && !texts)
        printf("%u\n", events);
    if (status != AKIN_OK)
        fprintf(stderr, "%s\n", error.message);
    event_store_close(&store);
    return status != AKIN_OK;
}
