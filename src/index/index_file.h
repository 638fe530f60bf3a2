/* The .akx file, version 1, as docs/formats.md describes it: a header, a table of blocks, blocks.
 * Little-endian; every byte lies under the checksum of the header or of one block. */
#pragma once

#include "akin/index.h"
#include "base/status.h"

enum {
    INDEX_VERSION = 1,
    INDEX_ALIGN_BYTES = 64,         /* of blocks and of the header's size */
    INDEX_BLOCK_BYTES_MAX = 1 << 20,
    INDEX_BLOCK_ROWS_STEP = 16,     /* 16 floats are 64 bytes: blocks of rows join without a gap */
};

enum index_kind { INDEX_KIND_FLAT = 1 };
enum index_block_type { INDEX_BLOCK_VECTORS = 1, INDEX_BLOCK_IDS = 2 };

/* The first 128 bytes. */
struct index_header {
    unsigned char magic[8];
    uint32_t version;
    uint32_t kind;              /* enum index_kind */
    uint64_t header_bytes;      /* this, the table, zeros, and 8 bytes of checksum at the end */
    uint64_t file_bytes;
    uint64_t features_required; /* a bit that the reader does not know: refuse */
    uint64_t features_optional; /* a bit that the reader does not know: ignore */
    uint32_t metric;            /* enum akin_metric */
    uint32_t element;           /* 0: float32 */
    uint64_t dimension;
    uint64_t count;
    uint64_t block_count;
    uint64_t reserved[6];       /* zero */
};

/* One row of the table. A block's bytes are followed by zeros up to a multiple of 64; the next one
 * begins there. */
struct index_block {
    uint32_t type;              /* enum index_block_type */
    uint32_t flags;             /* zero */
    uint64_t offset;
    uint64_t bytes;             /* without the zeros behind */
    uint64_t first;             /* number of the first row in it */
    uint64_t rows;
    uint64_t checksum;          /* XXH3-64 of the bytes and the zeros behind */
};

_Static_assert(sizeof(struct index_header) == 128, "as in the file");
_Static_assert(sizeof(struct index_block) == 48, "as in the file");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file is read where it lies");

extern const unsigned char index_magic[8];

/* A file's bytes, looked through but not owned. */
struct index_view {
    const char *name;                   /* for errors */
    const unsigned char *data;
    const struct index_header *header;
    const struct index_block *blocks;   /* [header->block_count] */
    const float *rows;                  /* [count][dimension] */
    const int64_t *ids;                 /* [count] ascending; NULL: row numbers */
};

uint64_t index_pad(uint64_t bytes);     /* up to the next multiple of 64 */
const char *index_kind_name(uint32_t kind);

/* Finds the parts of a file of `bytes` at `data` (aligned to 64). Reads the header and the table
 * only, trusts nothing; afterwards everything in the view lies inside the file. */
enum akin_status index_view_init(struct index_view *view, const char *name,
                                 const unsigned char *data, size_t bytes, struct akin_error *error);

/* Reads every block: checksums, zeros behind, finite vectors, ascending ids. */
enum akin_status index_view_check(const struct index_view *view, struct akin_error *error);
