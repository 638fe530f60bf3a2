/* akin audit init, append, checkpoint: the commands that write a log. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/thread.h"
#include "cli/cli.h"

/* ---- init -------------------------------------------------------------------------------- */

static const struct option init_options[] = {
    {"origin", 0, OPTION_TEXT, "NAME", NULL, "the log's unique name; else made from its key", 0, 0},
};

static enum akin_status run_init(struct cli *cli)
{
    const char *folder = cli->options.positionals[0];
    struct akin_audit *audit = NULL;
    struct akin_audit_info info;
    TRY(akin_audit_create(folder, options_text(&cli->options, "origin"), &cli->error));
    TRY(akin_audit_open(folder, &audit, &cli->error));
    akin_audit_info(audit, &info);
    akin_audit_close(&audit);
    if (cli->json) {
        json_t *root = json_object();
        json_object_set_new(root, "audit", json_of_text(folder));
        json_object_set_new(root, "origin", json_of_text(info.origin));
        json_object_set_new(root, "public_key", json_of_text(info.public_key));
        return print_json(cli, root);
    }
    printf("%s: an empty audit log, %s\n%s\n", folder, info.origin, info.public_key);
    print_note(cli, "keep the line above (it is in key.pub too) where the log cannot reach it: it "
                    "is what the log is verified with");
    return AKIN_OK;
}

const struct command command_audit_init = {
    .name = "audit init",
    .arguments = "DIR [options]",
    .summary = "an empty audit log in a new folder, with a new key",
    .details =
        "The secret key is DIR/key, which only you can read; DIR/key.pub is the public one.\n",
    .examples = "  akin audit init trail\n"
                "  akin audit init trail --origin example.com/trail\n",
    .options = {init_options, sizeof init_options / sizeof init_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_init,
};

/* ---- append ------------------------------------------------------------------------------ */

static const struct option append_options[] = {
    {"input", 'i', OPTION_TEXT, "FILE", "-", "a record a line; -: standard input", 0, 0},
    {"source", 0, OPTION_TEXT, "NAME", NULL, "who the records come from", 0, 0},
    {"whole", 0, OPTION_FLAG, "", NULL, "FILE is one record, whatever its bytes", 0, 0},
};

/* One thread reads and submits, the other tells what became durable. */
struct append_run {
    struct cli *cli;
    struct akin_audit *audit;
    struct mutex *lock;
    struct condition *changed;
    uint64_t submitted, before;     /* before: in the log when we began */
    bool ended;
    struct akin_error error;        /* of the thread that tells */
};

static void tell_durable(void *context)
{
    struct append_run *run = context;
    uint64_t told = 0;
    for (;;) {
        mutex_lock(run->lock);
        while (run->submitted == told && !run->ended)
            condition_wait(run->changed, run->lock);
        bool more = run->submitted > told;
        mutex_unlock(run->lock);
        uint64_t durable = 0;
        if (!more || akin_audit_wait(run->audit, run->before + told + 1, &durable, &run->error))
            return;
        told = durable - run->before;
        if (run->cli->json)
            continue;
        printf("acknowledged %" PRIu64 "\n", told);
        fflush(stdout);
    }
}

static enum akin_status submit(struct append_run *run, const void *data, size_t bytes)
{
    struct akin_audit_record record = {
        .data = data, .bytes = bytes, .source = options_text(&run->cli->options, "source")};
    TRY(akin_audit_submit(run->audit, &record, 1, NULL, &run->cli->error));
    mutex_lock(run->lock);
    run->submitted++;
    condition_wake(run->changed);
    mutex_unlock(run->lock);
    return AKIN_OK;
}

static enum akin_status submit_lines(struct append_run *run, const char *path)
{
    struct cli *cli = run->cli;
    struct line_reader *lines = NULL;
    const char *line;
    size_t bytes;
    enum akin_status status = AKIN_OK;
    TRY(line_reader_open(path, &lines, &cli->error));
    for (;;) {
        TRY_DONE(check_interrupted(cli));
        TRY_DONE(line_reader_next(lines, &line, &bytes, &cli->error));
        if (!line)
            break;
        status = submit(run, line, bytes);
        if (status != AKIN_OK) {
            status = error_context(&cli->error, status, "%s:%" PRIu64, path,
                                   line_reader_number(lines));
            break;
        }
    }
done:
    line_reader_close(&lines);
    return status;
}

static enum akin_status submit_whole(struct append_run *run, const char *path)
{
    struct file_map map;
    TRY(file_map_open(path, &map, &run->cli->error));
    enum akin_status status = submit(run, map.data, map.bytes);
    file_map_close(&map);
    return status;
}

static void end_telling(struct append_run *run, struct thread **teller)
{
    mutex_lock(run->lock);
    run->ended = true;
    condition_wake(run->changed);
    mutex_unlock(run->lock);
    thread_join(teller);
}

static enum akin_status append_all(struct append_run *run)
{
    struct cli *cli = run->cli;
    const char *path = options_text(&cli->options, "input");
    struct thread *teller = NULL;
    run->lock = mutex_create();
    run->changed = condition_create();
    if (run->lock && run->changed)
        teller = thread_start(tell_durable, run, false);
    if (!teller)
        return error_memory(&cli->error);
    enum akin_status status = options_flag(&cli->options, "whole") ? submit_whole(run, path)
                                                                   : submit_lines(run, path);
    end_telling(run, &teller);
    if (run->error.status != AKIN_OK) {
        cli->error = run->error;
        status = run->error.status;
    }
    return status;
}

static enum akin_status run_append(struct cli *cli)
{
    struct append_run run = {.cli = cli};
    struct akin_audit_info info;
    TRY(akin_audit_open(cli->options.positionals[0], &run.audit, &cli->error));
    akin_audit_info(run.audit, &info);
    run.before = info.records;
    if (info.cut_bytes)
        print_note(cli, "an append that a crash had left unfinished was cut off: %" PRIu64 " bytes",
                   info.cut_bytes);
    enum akin_status status = append_all(&run);
    if (status == AKIN_OK)
        status = akin_audit_checkpoint(run.audit, NULL, &cli->error);
    akin_audit_info(run.audit, &info);
    akin_audit_close(&run.audit);
    mutex_destroy(&run.lock);
    condition_destroy(&run.changed);
    if (status == AKIN_OK && cli->json)
        return print_json(cli, json_pack("{s:o, s:o, s:o}", "acknowledged",
                                         json_of_count(run.submitted), "first",
                                         json_of_count(run.before), "records",
                                         json_of_count(info.records)));
    return status;
}

const struct command command_audit_append = {
    .name = "audit append",
    .arguments = "DIR [-i FILE] [options]",
    .summary = "lines to records of an audit log",
    .details =
        "Prints 'acknowledged COUNT' when the first COUNT lines are durable: they survive a kill\n"
        "and a power loss from then on. Lines that come together become durable together. A\n"
        "checkpoint is signed at the end. One process may write a log at a time.\n",
    .examples = "  akin audit append trail -i events.jsonl\n"
                "  journalctl -f -o json | akin audit append trail --source journal\n"
                "  akin audit append trail -i contract.pdf --whole --source legal\n",
    .options = {append_options, sizeof append_options / sizeof append_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_append,
};

/* ---- checkpoint -------------------------------------------------------------------------- */

static enum akin_status run_checkpoint(struct cli *cli)
{
    const char *folder = cli->options.positionals[0];
    struct akin_audit *audit = NULL;
    struct akin_audit_info info;
    uint64_t size = 0;
    TRY(akin_audit_open(folder, &audit, &cli->error));
    enum akin_status status = akin_audit_checkpoint(audit, &size, &cli->error);
    akin_audit_info(audit, &info);
    akin_audit_close(&audit);
    TRY(status);
    if (cli->json)
        return print_json(cli, json_pack("{s:o, s:o, s:o}", "checkpoint", json_of_count(size),
                                         "recovered", json_of_count(info.recovered), "cut_bytes",
                                         json_of_count(info.cut_bytes)));
    printf("%s: checkpoint over %" PRIu64 " records\n", folder, size);
    if (info.recovered)
        print_note(cli, "%" PRIu64 " of them were found behind the last checkpoint",
                   info.recovered);
    if (info.cut_bytes)
        print_note(cli, "an append that a crash had left unfinished was cut off: %" PRIu64 " bytes",
                   info.cut_bytes);
    return AKIN_OK;
}

const struct command command_audit_checkpoint = {
    .name = "audit checkpoint",
    .arguments = "DIR [options]",
    .summary = "sign all records of an audit log; puts right what a crash has left",
    .details = "DIR/checkpoint is a signed note that others can check and keep: a copy elsewhere\n"
               "is what makes it impossible to remove or rewrite what it covers unseen.\n",
    .examples = "  akin audit checkpoint trail && cp trail/checkpoint /elsewhere/$(date +%F)\n",
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_checkpoint,
};
