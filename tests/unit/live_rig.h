/* A small catalogue in a scratch folder, for tests of what happens after the import. */
#pragma once

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "catalog/catalog.h"

enum { RIG_ITEMS = 400, RIG_USERS = 5, RIG_RATED = 90 };

static char rig_folder[64];
static struct catalog *rig_catalog;

static void must(enum akin_status status, const struct akin_error *error)
{
    if (status != AKIN_OK)
        fail_msg("%s", error->message);
}

/* Items i0, i1, ...; users c0, c1, ... who rated some of them 1 to 5. */
static int rig_set_up(void **state)
{
    char items[96], plays[96], data[96];
    struct bytes text = { 0 };
    struct akin_error error = { 0 };
    (void)state;
    snprintf(rig_folder, sizeof rig_folder, "/tmp/akin_live_XXXXXX");
    assert_non_null(mkdtemp(rig_folder));
    snprintf(items, sizeof items, "%s/in.jsonl", rig_folder);
    snprintf(plays, sizeof plays, "%s/plays.jsonl", rig_folder);
    snprintf(data, sizeof data, "%s/data", rig_folder);
    for (int i = 0; i < RIG_ITEMS; i++)
        bytes_printf(&text, "{\"id\":\"i%d\",\"title\":\"T %d\",\"text\":\"t\"}\n", i, i);
    must(file_write(items, text.data, text.count, &error), &error);
    bytes_clear(&text);
    for (int u = 0; u < RIG_USERS; u++)
        for (int i = 0; i < RIG_RATED; i++)
            bytes_printf(&text, "{\"user\":\"c%d\",\"item\":\"i%d\",\"rating\":%d,"
                         "\"timestamp\":%d}\n", u, (u * 37 + i * 3) % RIG_ITEMS, 1 + (u + i) % 5,
                         i);
    must(file_write(plays, text.data, text.count, &error), &error);
    bytes_deinit(&text);
    must(catalog_import_jsonl(items, plays, NULL, data, (struct akin_progress){0}, NULL, &error),
         &error);
    must(catalog_open(data, CATALOG_WITHOUT_EMBEDDINGS, &rig_catalog, &error), &error);
    return 0;
}

static int rig_tear_down(void **state)
{
    (void)state;
    catalog_close(&rig_catalog);
    return path_remove_tree(rig_folder, NULL) == AKIN_OK ? 0 : -1;
}

/* A database of its own for each test. */
__attribute__((unused)) static const char *rig_store(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s.db", rig_folder, name);
    return path;
}

/* Changes a database behind our back. */
__attribute__((unused)) static void rig_sql(const char *path, const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

/* Reads so many numbers that a child writes when something is acknowledged, lets it run on for a
 * moment, kills it, and reads the rest. The last number, or 0. */
__attribute__((unused)) static uint64_t rig_kill(pid_t child, int acks, uint64_t wanted,
                                                 uint64_t moment_us)
{
    uint64_t last = 0;
    for (uint64_t i = 0, n; i < wanted && read(acks, &n, sizeof n) == sizeof n; i++)
        last = n;
    usleep((useconds_t)moment_us);
    kill(child, SIGKILL);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (uint64_t n; read(acks, &n, sizeof n) == sizeof n;)
        last = n;
    close(acks);
    return last;
}

/* What a child process ended with; 0: fine. */
__attribute__((unused)) static int rig_wait(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}
