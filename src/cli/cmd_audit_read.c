/* akin audit verify, prove, verify-proof, export: the commands that need no key and no lock. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/csv.h"
#include "base/file.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/cmd_audit.h"

/* ---- verify ------------------------------------------------------------------------------ */

static const struct option verify_options[] = {
    {"public-key", 0, OPTION_TEXT, "KEY", NULL, "the key or a file of it; else DIR/key.pub", 0, 0},
    {"since", 0, OPTION_TEXT, "FILE", NULL, "a checkpoint kept from earlier", 0, 0},
    {"witness", 0, OPTION_TEXT, "KEY", NULL, "who must have cosigned a checkpoint", 0, 0},
};

json_t *audit_verdict_json(const char *folder, const struct akin_audit_verdict *verdict)
{
    json_t *root = json_object();
    json_object_set_new(root, "audit", json_of_text(folder));
    json_object_set_new(root, "ok", json_true());
    json_object_set_new(root, "origin", json_of_text(verdict->origin));
    json_object_set_new(root, "public_key", json_of_text(verdict->public_key));
    json_object_set_new(root, "checkpoint", json_of_count(verdict->checkpoint));
    json_object_set_new(root, "root", json_of_text(verdict->root));
    json_object_set_new(root, "records", json_of_count(verdict->records));
    json_object_set_new(root, "checkpoints", json_of_count(verdict->checkpoints));
    json_object_set_new(root, "keys", json_of_count(verdict->keys));
    json_object_set_new(root, "since", json_of_count(verdict->since));
    json_object_set_new(root, "witnessed", json_of_count(verdict->witnessed));
    json_object_set_new(root, "writer", json_boolean(verdict->writer));
    return root;
}

static enum akin_status run_verify(struct cli *cli)
{
    const char *folder = cli->options.positionals[0];
    const char *witness = options_text(&cli->options, "witness");
    struct akin_audit_verify_options options = {
        .public_key = options_text(&cli->options, "public-key"),
        .since = options_text(&cli->options, "since"),
        .witnesses = witness ? &witness : NULL,
        .witness_count = witness != NULL,
        .progress = progress_begin(&cli->progress, "records"),
    };
    struct akin_audit_verdict v;
    TRY(akin_audit_verify(folder, &options, &v, &cli->error));
    if (cli->json)
        return print_json(cli, audit_verdict_json(folder, &v));
    progress_end(&cli->progress);
    printf("%s: %" PRIu64 " records of %s are as they were appended\n"
           "  checkpoint over %" PRIu64 " of them, root %s\n"
           "  %" PRIu64 " checkpoint%s, %" PRIu64 " key%s\n",
           folder, v.records, v.origin, v.checkpoint, v.root, v.checkpoints,
           v.checkpoints == 1 ? "" : "s", v.keys, v.keys == 1 ? "" : "s");
    if (options.since)
        printf("  continues the earlier checkpoint over %" PRIu64 "\n", v.since);
    if (witness)
        printf("  cosigned by the witness up to %" PRIu64 "\n", v.witnessed);
    if (v.writer)
        print_note(cli, "the log is being written: what is behind the checkpoint was not judged");
    if (!options.public_key)
        print_note(cli, "by the key in the folder itself; --public-key takes one kept elsewhere");
    return AKIN_OK;
}

const struct command command_audit_verify = {
    .name = "audit verify",
    .arguments = "DIR [options]",
    .summary = "whether every record of an audit log is as it was appended",
    .details =
        "Derives the whole tree from the records and compares every byte of every file. Exits 0,\n"
        "or 1 naming the first record or file that was changed, removed, inserted or moved.\n"
        "Whoever has the secret key can sign another history, and anybody can remove the end of\n"
        "this one: --since and --witness find that.\n",
    .examples = "  akin audit verify trail\n"
                "  akin audit verify trail --public-key kept.pub --since kept.checkpoint\n",
    .options = {verify_options, sizeof verify_options / sizeof verify_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_verify,
};

/* ---- proofs ------------------------------------------------------------------------------ */

static const struct option prove_options[] = {
    {"output", 'o', OPTION_TEXT, "P.json", "-", "the proof", 0, 0},
    {"since", 0, OPTION_TEXT, "FILE", NULL, "that the log continues this checkpoint", 0, 0},
};

static enum akin_status run_prove(struct cli *cli)
{
    const char *const *words = cli->options.positionals;
    const char *since = options_text(&cli->options, "since");
    const char *output = options_text(&cli->options, "output");
    uint64_t index;
    if (since) {
        if (cli->options.positional_count > 1)
            return wrong_use(cli, "audit prove takes INDEX or --since FILE, not both");
        return akin_audit_prove_consistency(words[0], since, output, &cli->error);
    }
    if (cli->options.positional_count < 2)
        return wrong_use(cli, "audit prove needs the INDEX of a record, or --since FILE");
    if (!parse_uint64(words[1], strlen(words[1]), &index))
        return wrong_use(cli, "INDEX: '%.40s' is not the number of a record, from 0", words[1]);
    return akin_audit_prove(words[0], index, output, &cli->error);
}

const struct command command_audit_prove = {
    .name = "audit prove",
    .arguments = "DIR (INDEX | --since FILE) [-o P.json]",
    .summary = "a proof that a record is in the log, or that the log continues a checkpoint",
    .details = "INDEX counts from 0. P.json holds the record (or the SHA-256 of a long one), the\n"
               "hashes and the signed checkpoint: who has the public key needs nothing else.\n",
    .examples = "  akin audit prove trail 17 -o proof.json\n"
                "  akin audit prove trail --since kept.checkpoint -o proof.json\n",
    .options = {prove_options, sizeof prove_options / sizeof prove_options[0]},
    .positionals_min = 1,
    .positionals_max = 2,
    .run = run_prove,
};

static const struct option check_options[] = {
    {"public-key", 0, OPTION_TEXT, "KEY", NULL, "the key or a file of it", 0, 0},
    {"record", 0, OPTION_TEXT, "FILE", NULL, "must hold the bytes of the record", 0, 0},
};

static enum akin_status run_check(struct cli *cli)
{
    const char *path = cli->options.positionals[0], *key = NULL;
    struct akin_audit_proof proof;
    TRY(need_text(cli, "public-key", &key));
    TRY(akin_audit_verify_proof(path, key, options_text(&cli->options, "record"), &proof,
                                &cli->error));
    if (cli->json)
        return print_json(cli, json_pack("{s:b, s:o, s:s, s:o, s:o}", "ok", 1, "origin",
                                         json_of_text(proof.origin), "type",
                                         proof.consistency ? "consistency" : "inclusion",
                                         proof.consistency ? "from" : "index",
                                         json_of_count(proof.index), "size",
                                         json_of_count(proof.size)));
    if (proof.consistency)
        printf("%s: %s over %" PRIu64 " records continues itself over %" PRIu64 "\n", path,
               proof.origin, proof.size, proof.index);
    else
        printf("%s: record %" PRIu64 " is in %s over %" PRIu64 " records\n", path, proof.index,
               proof.origin, proof.size);
    return AKIN_OK;
}

const struct command command_audit_verify_proof = {
    .name = "audit verify-proof",
    .arguments = "P.json --public-key KEY [options]",
    .summary = "check a proof with the public key alone",
    .examples =
        "  akin audit verify-proof proof.json --public-key kept.pub\n"
        "  akin audit verify-proof proof.json --public-key kept.pub --record contract.pdf\n",
    .options = {check_options, sizeof check_options / sizeof check_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_check,
};

/* ---- export ------------------------------------------------------------------------------ */

static const struct option export_options[] = {
    {"format", 0, OPTION_CHOICE, "jsonl|csv", "jsonl", "of the output", 0, 0},
    {"output", 'o', OPTION_TEXT, "FILE", "-", "where to; -: standard output", 0, 0},
    {"from", 0, OPTION_COUNT, "INDEX", "0", "the first record", 0, 9e15},
};

void audit_time_text(int64_t time_us, char text[40])
{
    int64_t seconds = time_us / 1000000, rest = time_us % 1000000;
    if (rest < 0) {
        rest += 1000000;
        seconds--;
    }
    clock_iso(seconds, text, 32);
    size_t length = strlen(text);
    if (length && text[length - 1] == 'Z')
        snprintf(text + length - 1, 40 - length + 1, ".%06dZ", (int)rest);
}

/* What is no UTF-8, or has a NUL in it, is base64. */
static bool is_text(const struct akin_audit_entry *entry)
{
    return utf8_valid(entry->data, entry->bytes) && !memchr(entry->data, 0, entry->bytes);
}

static void append_jsonl(struct bytes *out, const struct akin_audit_entry *entry)
{
    char when[40];
    audit_time_text(entry->time_us, when);
    bytes_printf(out, "{\"index\":%" PRIu64 ",\"time\":\"%s\"", entry->index, when);
    if (entry->kind != AKIN_AUDIT_RECORD)
        bytes_printf(out, ",\"kind\":\"%s\"", akin_audit_kind_name(entry->kind));
    if (*entry->source) {
        bytes_append_text(out, ",\"source\":");
        json_append_string(out, entry->source, strlen(entry->source));
    }
    if (*entry->cursor) {
        bytes_append_text(out, ",\"cursor\":");
        json_append_string(out, entry->cursor, strlen(entry->cursor));
    }
    if (is_text(entry)) {
        bytes_append_text(out, ",\"record\":");
        json_append_string(out, entry->data, entry->bytes);
        bytes_append_text(out, "}\n");
    } else {
        bytes_append_text(out, ",\"record_base64\":\"");
        base64_append(out, entry->data, entry->bytes);
        bytes_append_text(out, "\"}\n");
    }
}

/* RFC 4180: quoted where it has to be. */
static void append_field(struct bytes *out, const char *text, size_t bytes)
{
    bool quoted = false;
    for (size_t i = 0; i < bytes; i++)
        quoted = quoted || strchr("\",\r\n", text[i]);
    if (!quoted) {
        bytes_append(out, text, bytes);
        return;
    }
    bytes_append_text(out, "\"");
    for (size_t i = 0; i < bytes; i++) {
        bytes_append(out, text + i, 1);
        if (text[i] == '"')
            bytes_append_text(out, "\"");
    }
    bytes_append_text(out, "\"");
}

static void append_csv(struct bytes *out, const struct akin_audit_entry *entry)
{
    char when[40];
    bool text = is_text(entry);
    audit_time_text(entry->time_us, when);
    bytes_printf(out, "%" PRIu64 ",%s,%s,", entry->index, when, akin_audit_kind_name(entry->kind));
    append_field(out, entry->source, strlen(entry->source));
    bytes_append_text(out, ",");
    append_field(out, entry->cursor, strlen(entry->cursor));
    bytes_append_text(out, text ? ",text," : ",base64,");
    if (text)
        append_field(out, entry->data, entry->bytes);
    else
        base64_append(out, entry->data, entry->bytes);
    bytes_append_text(out, "\r\n");
}

static enum akin_status export_all(struct cli *cli, struct akin_audit_reader *reader,
                                   struct file_writer *writer)
{
    bool csv = options_text(&cli->options, "format")[0] == 'c', more = true;
    struct bytes out = {0};
    enum akin_status status = AKIN_OK;
    if (csv)
        bytes_append_text(&out, "index,time,kind,source,cursor,encoding,record\r\n");
    for (;;) {
        struct akin_audit_entry entry;
        TRY_DONE(check_interrupted(cli));
        TRY_DONE(akin_audit_reader_next(reader, &entry, &more, &cli->error));
        if (more)
            (csv ? append_csv : append_jsonl)(&out, &entry);
        if (out.failed)
            TRY_DONE(error_memory(&cli->error));
        TRY_DONE(file_writer_write(writer, out.data, out.count, &cli->error));
        bytes_clear(&out);
        if (!more)
            break;
    }
done:
    bytes_deinit(&out);
    return status;
}

static enum akin_status run_export(struct cli *cli)
{
    struct akin_audit_reader *reader = NULL;
    struct file_writer *writer = NULL;
    enum akin_status status = AKIN_OK;
    TRY_DONE(akin_audit_reader_open(cli->options.positionals[0],
                                    options_count(&cli->options, "from"), &reader, &cli->error));
    TRY_DONE(file_writer_open(options_text(&cli->options, "output"), &writer, &cli->error));
    TRY_DONE(export_all(cli, reader, writer));
    status = file_writer_commit(&writer, &cli->error);
done:
    file_writer_abort(&writer);
    akin_audit_reader_close(&reader);
    return status;
}

const struct command command_audit_export = {
    .name = "audit export",
    .arguments = "DIR [options]",
    .summary = "the records of an audit log as JSON lines or CSV",
    .details =
        "A record that is no text, or has a NUL in it, is base64. Exporting does not verify.\n",
    .examples = "  akin audit export trail | jq .record\n"
                "  akin audit export trail --format csv -o trail.csv\n",
    .options = {export_options, sizeof export_options / sizeof export_options[0]},
    .positionals_min = 1,
    .positionals_max = 1,
    .run = run_export,
};
