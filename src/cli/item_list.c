/* See item_list.h. Names are only told apart here; the request finds them. */
#include "cli/item_list.h"

#include <string.h>

#include "base/json.h"

enum { JOINED_MAX = 4 };        /* parts of one title */

static enum akin_status add(struct cli *cli, struct item_list *list, const char *name)
{
    if (!array_reserve((void **)&list->names, &list->capacity, list->count + 1,
                       sizeof *list->names))
        return error_memory(&cli->error);
    list->names[list->count++] = name;
    return AKIN_OK;
}

static char *trim(char *text)
{
    text += strspn(text, " \t\r\n");
    for (size_t bytes = strlen(text); bytes && strchr(" \t\r\n", text[bytes - 1]); bytes--)
        text[bytes - 1] = 0;
    return text;
}

static bool is_blank(const char *begin, const char *end)
{
    return begin + strspn(begin, " \t\r\n") >= end;
}

/* The end of the longest title that begins here: a comma or the end of the text. */
static char *end_of_title(const struct akin_catalog *catalog, char *begin)
{
    char *ends[JOINED_MAX];
    size_t count = 0, row;
    for (char *at = begin; count < JOINED_MAX; at = ends[count - 1] + 1) {
        char *end = at + strcspn(at, ",");
        if (count && is_blank(at, end))
            break;
        ends[count++] = end;
        if (!*end || is_blank(begin, ends[0]))
            break;
    }
    while (count > 1) {
        char *end = ends[count - 1], kept = *end;
        *end = 0;
        bool found = akin_catalog_find(catalog, begin, &row, NULL) == AKIN_OK;
        *end = kept;
        if (found)
            return end;
        count--;
    }
    return ends[0];
}

static enum akin_status read_plain(struct cli *cli, const struct akin_catalog *catalog,
                                   const char *option, struct item_list *list)
{
    for (char *at = list->text; at;) {
        char *end = end_of_title(catalog, at), *next = *end ? end + 1 : NULL;
        *end = 0;
        at = trim(at);
        if (!*at)
            return wrong_use(cli, "--%s: item %zu is empty", option, list->count + 1);
        TRY(add(cli, list, at));
        at = next;
    }
    return AKIN_OK;
}

/* The names follow each other in the list's text. */
static enum akin_status read_json(struct cli *cli, const char *option, const char *text,
                                  struct item_list *list)
{
    struct akin_error why = {0};
    struct bytes names = {0};
    json_t *root;
    if (json_parse(text, strlen(text), "JSON", &root, &why) != AKIN_OK)
        return wrong_use(cli, "--%s: %s", option, why.message);
    enum akin_status status = AKIN_OK;
    size_t count = json_array_size(root);
    for (size_t i = 0; status == AKIN_OK && i < count; i++) {
        const char *name = json_string_value(json_array_get(root, i));
        if (!name || !*name)
            status = wrong_use(cli, "--%s: item %zu: expected a title or an id", option, i + 1);
        else
            bytes_append(&names, name, strlen(name) + 1);
    }
    if (status == AKIN_OK && !json_is_array(root))
        status = wrong_use(cli, "--%s: expected an array of titles or ids", option);
    json_decref(root);
    memory_free(list->text);
    list->text = names.data;
    if (status == AKIN_OK && names.failed)
        status = error_memory(&cli->error);
    const char *at = list->text;
    for (size_t i = 0; status == AKIN_OK && i < count; i++, at += strlen(at) + 1)
        status = add(cli, list, at);
    return status;
}

enum akin_status item_list_read(struct cli *cli, const struct akin_catalog *catalog,
                                const char *option, struct item_list *list)
{
    const char *text = options_text(&cli->options, option);
    if (!text)
        return AKIN_OK;
    list->text = memory_copy_string(text);
    if (!list->text)
        return error_memory(&cli->error);
    text += strspn(text, " \t\r\n");
    return *text == '[' ? read_json(cli, option, text, list)
                        : read_plain(cli, catalog, option, list);
}

void item_list_deinit(struct item_list *list)
{
    memory_free(list->names);
    memory_free(list->text);
    *list = (struct item_list){0};
}
