/* Lists of items as people type them: 'ml_1, toy story, Godfather, The (1972)', or a JSON array. */
#pragma once

#include "cli/cli.h"

struct item_list {
    char *text;
    const char **names;         /* [count] */
    size_t count, capacity;
};

/* The value of --option, NULL: an empty list. A comma separates items unless the parts on both
 * sides of it are one title. Errors name the option. */
enum akin_status item_list_read(struct cli *cli, const struct akin_catalog *catalog,
                                const char *option, struct item_list *list);
void item_list_deinit(struct item_list *list);
