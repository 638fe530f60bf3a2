#include "events/journal_handle.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "events/source_kinds.h"

/* ---- filters ------------------------------------------------------------------------------- */

static const char unit_prefix[] = "unit=";

static int add_match(sd_journal *journal, const char *field, const char *value)
{
    char match[512];
    int bytes = snprintf(match, sizeof match, "%s%s", field, value);
    return bytes < (int)sizeof match ? sd_journal_add_match(journal, match, (size_t)bytes) : -E2BIG;
}

/* What the unit says, what systemd says of it, what others say of it, and its core dumps. */
static int add_unit(sd_journal *journal, const char *unit)
{
    const char *const groups[][3] = {
        {"_SYSTEMD_UNIT="},
        {"UNIT=", "_PID=1"},
        {"OBJECT_SYSTEMD_UNIT=", "_UID=0"},
        {"COREDUMP_UNIT=", "_UID=0", "MESSAGE_ID=fc2e22bc6ee647b6b90729ab34a250b1"},
    };
    char name[256];
    int bytes = snprintf(name, sizeof name, "%s%s", unit, strchr(unit, '.') ? "" : ".service");
    int r = bytes < (int)sizeof name && *unit ? 0 : -EINVAL;
    for (size_t i = 0; r >= 0 && i < sizeof groups / sizeof *groups; i++) {
        r = add_match(journal, groups[i][0], name);
        for (int j = 1; r >= 0 && j < 3 && groups[i][j]; j++)
            r = add_match(journal, groups[i][j], "");
        if (r >= 0)
            r = sd_journal_add_disjunction(journal);
    }
    return r;
}

static int add_one(sd_journal *journal, const char *match)
{
    if (!strncmp(match, unit_prefix, sizeof unit_prefix - 1))
        return add_unit(journal, match + sizeof unit_prefix - 1);
    if (!strcmp(match, "+"))
        return sd_journal_add_disjunction(journal);
    return sd_journal_add_match(journal, match, strlen(match));
}

static int add_filters(const struct journal_what *what, sd_journal *journal, const char **refused)
{
    int r = 0;
    for (int i = 0; r >= 0 && what->priority < 7 && i <= what->priority; i++)
        r = add_match(journal, "PRIORITY=", (char[]){(char)('0' + i), 0});
    if (r >= 0)
        r = sd_journal_add_conjunction(journal);
    /* Units first, all of them: they are one group, joined to the rest by "and". */
    for (int units = 1; r >= 0 && units >= 0; units--) {
        for (size_t i = 0; i < what->match_count; i++) {
            const char *match = what->match[i];
            if (!strncmp(match, unit_prefix, sizeof unit_prefix - 1) != (bool)units)
                continue;
            r = add_one(journal, match);
            if (r < 0) {
                *refused = match;
                return r;
            }
        }
        r = sd_journal_add_conjunction(journal);
    }
    return r;
}

/* ---- opening ------------------------------------------------------------------------------- */

int journal_handle_open(const struct journal_what *what, sd_journal **journal,
                        const char **refused)
{
    sd_journal *j = NULL;
    *refused = NULL;
    int r = what->folder ? sd_journal_open_directory(&j, what->folder, 0)
                         : sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY);
    if (r >= 0)
        r = sd_journal_get_fd(j);       /* from here on new files are heard of */
    if (r >= 0)                         /* libsystemd may cut what is longer, by default 64 KB */
        r = sd_journal_set_data_threshold(j, EVENT_BYTES_MAX + 256);
    if (r >= 0)
        r = add_filters(what, j, refused);
    if (r < 0) {
        sd_journal_close(j);
        j = NULL;
    }
    *journal = j;
    return r < 0 ? r : 0;
}

static void check_file(const char *path, const struct source_note *note, const char *name)
{
    const char *paths[] = {path, NULL};
    sd_journal *journal = NULL;
    int r = sd_journal_open_files(&journal, paths, 0);
    sd_journal_close(journal);
    if (r < 0)
        source_tell(note, name, "%s: cannot be read (%s), its entries are not seen: move it away, "
                    "or see what `journalctl --verify --file` says", path, strerror(-r));
}

static bool is_journal(const char *name)
{
    size_t bytes = strlen(name);
    return (bytes > 8 && !strcmp(name + bytes - 8, ".journal")) ||
           (bytes > 9 && !strcmp(name + bytes - 9, ".journal~"));
}

/* The folder's files and, as libsystemd does, those of the folders of machines in it. */
static void check_folder(const char *folder, unsigned depth, const struct source_note *note,
                         const char *name)
{
    struct names names = {0};
    char path[PATH_BYTES_MAX];
    if (path_list(folder, &names, NULL) != AKIN_OK)
        return;
    for (size_t i = 0; i < names.count; i++) {
        if (path_join(path, sizeof path, folder, names.items[i], NULL) != AKIN_OK)
            continue;
        if (is_journal(names.items[i]))
            check_file(path, note, name);
        else if (depth && strlen(names.items[i]) >= 32 && path_is_folder(path))
            check_folder(path, depth - 1, note, name);
    }
    names_deinit(&names);
}

void journal_handle_check(const struct journal_what *what, const struct source_note *note,
                          const char *name)
{
    if (what->folder) {
        check_folder(what->folder, 1, note, name);
    } else {
        check_folder("/var/log/journal", 1, note, name);
        check_folder("/run/log/journal", 1, note, name);
    }
}
