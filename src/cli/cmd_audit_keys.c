/* akin audit rotate-key, cosign. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"

static enum akin_status run_rotate(struct cli *cli)
{
    struct akin_audit *audit = NULL;
    struct akin_audit_info info;
    TRY(akin_audit_open(cli->options.positionals[0], &audit, &cli->error));
    enum akin_status status = akin_audit_rotate_key(audit, &cli->error);
    akin_audit_info(audit, &info);
    akin_audit_close(&audit);
    TRY(status);
    if (cli->json)
        return print_json(cli, json_pack("{s:o, s:o}", "public_key", json_of_text(info.public_key),
                                         "records", json_of_count(info.records)));
    printf("%s\n", info.public_key);
    print_note(cli, "record %" PRIu64 " names the old key and the new one; proofs from now on are "
                    "checked with the new one", info.records - 1);
    return AKIN_OK;
}

const struct command command_audit_rotate_key = {
    .name = "audit rotate-key",
    .arguments = "DIR [options]",
    .summary = "sign with a new key from now on; a record says so",
    .details = "The old key signs the record, and is then gone. 'akin audit verify' takes either\n"
               "public key, because the log itself leads from one to the other.\n",
    .examples = "  akin audit rotate-key trail\n",
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_rotate,
};

static const struct option cosign_options[] = {
    {"witness", 0, OPTION_TEXT, "KEY", NULL, "the witness's key or a file of it", 0, 0},
    {"input", 'i', OPTION_TEXT, "FILE", "-", "its signature lines, or a whole cosigned note", 0, 0},
    {"size", 0, OPTION_COUNT, "N", NULL, "records of the checkpoint; else the newest", 0, 9e15},
};

/* The signature lines of a note, or of nothing but them, that this log's key has not made. */
static enum akin_status cosign_lines(struct cli *cli, struct akin_audit *audit, uint64_t size,
                                     const char *witness, size_t *taken)
{
    struct line_reader *lines = NULL;
    struct akin_audit_info info;
    const char *line;
    size_t bytes;
    enum akin_status status = AKIN_OK;
    akin_audit_info(audit, &info);
    TRY(line_reader_open(options_text(&cli->options, "input"), &lines, &cli->error));
    for (;;) {
        char copy[1024];
        static const char mark[] = "\xe2\x80\x94 ";
        TRY_DONE(line_reader_next(lines, &line, &bytes, &cli->error));
        if (!line)
            break;
        if (bytes <= sizeof mark || memcmp(line, mark, sizeof mark - 1) || bytes >= sizeof copy)
            continue;
        memcpy(copy, line, bytes);
        copy[bytes] = 0;
        size_t origin = strlen(info.origin);
        if (!strncmp(copy + sizeof mark - 1, info.origin, origin) &&
            copy[sizeof mark - 1 + origin] == ' ')
            continue;
        TRY_DONE(akin_audit_cosign(audit, size, copy, witness, &cli->error));
        ++*taken;
    }
done:
    line_reader_close(&lines);
    return status;
}

static enum akin_status run_cosign(struct cli *cli)
{
    const char *folder = cli->options.positionals[0], *witness = NULL;
    struct akin_audit *audit = NULL;
    struct akin_audit_info info;
    size_t taken = 0;
    TRY(need_text(cli, "witness", &witness));
    TRY(akin_audit_open(folder, &audit, &cli->error));
    akin_audit_info(audit, &info);
    uint64_t size = options_given(&cli->options, "size") ? options_count(&cli->options, "size")
                                                         : info.checkpoint;
    enum akin_status status = cosign_lines(cli, audit, size, witness, &taken);
    akin_audit_close(&audit);
    TRY(status);
    if (taken == 0)
        return error_set(&cli->error, AKIN_FORMAT, "%s: no signature line in it",
                         options_text(&cli->options, "input"));
    if (cli->json)
        return print_json(cli, json_pack("{s:o, s:o}", "checkpoint", json_of_count(size),
                                         "cosignatures", json_of_count(taken)));
    printf("%s: checkpoint over %" PRIu64 " records is cosigned\n", folder, size);
    return AKIN_OK;
}

const struct command command_audit_cosign = {
    .name = "audit cosign",
    .arguments = "DIR --witness KEY [-i LINES] [options]",
    .summary = "add what a witness signed to a checkpoint",
    .details = "A witness signs DIR/checkpoint only if it continues every one it has signed\n"
               "before (C2SP cosignature/v1): then history cannot be rewritten unseen even by who\n"
               "has the secret key. 'akin audit verify --witness KEY' asks for it.\n",
    .examples = "  akin audit cosign trail --witness witness.pub -i answer.txt\n",
    .options = {cosign_options, sizeof cosign_options / sizeof cosign_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_cosign,
};
