/* The inside of akin_audit_verify: everything is derived anew from the entries, and every file is
 * compared with what it should then be. */
#pragma once

#include "audit/journal.h"
#include "audit/rotation.h"
#include "audit/tiles.h"

/* A tree head that must come out at `size`. */
struct milestone {
    uint64_t size;
    struct tree_hash root;          /* as derived */
};

struct verifier {
    const char *folder;
    const struct akin_audit_verify_options *options;
    char origin[AKIN_AUDIT_ORIGIN_BYTES_MAX + 1];
    struct public_key key;          /* of key.pub */
    struct bytes note, since_note;
    struct checkpoint checkpoint, since;
    bool live;                      /* somebody writes */

    struct milestone *milestones;   /* checkpoints of the history and the earlier one, ascending */
    size_t milestone_count, milestone_capacity, milestone_at;
    uint64_t *history;              /* sizes, ascending */
    size_t history_count, history_capacity;

    struct tree_edge edge;
    struct tree_hash tiles[TILE_LEVELS][TILE_WIDTH];    /* the unfinished one of each level */
    size_t widths[TILE_LEVELS];
    struct cursors cursors;
    struct key_chain chain;
    struct public_key *witnesses;   /* that the log knows */
    size_t witness_count, witness_capacity;
    uint64_t *larges;               /* records with a file of their own, ascending */
    size_t large_count, large_capacity;
    struct bytes scratch;
    enum akin_status status;        /* of a tile that was found wrong while the tree grew */
    struct akin_error *error;
};

/* verify.c: what an entry says beyond its hash. */
enum akin_status verify_entry(struct verifier *v, uint64_t index, const struct entry *entry);
/* The bytes of a file of the log: AKIN_FORMAT when it is missing or too long. */
enum akin_status verify_read(struct verifier *v, const char *name, size_t bytes_max,
                             struct bytes *out);

/* verify_journal.c */
enum akin_status verify_journal(struct verifier *v);

/* verify_files.c */
enum akin_status verify_list_history(struct verifier *v);
enum akin_status verify_history(struct verifier *v, uint64_t *witnessed);
enum akin_status verify_tree_of_files(struct verifier *v);
