/* Every limit on what grows, in one place; each named in the error that it causes. */
#pragma once

#include <assert.h>
#include <stdint.h>

#define LINE_BYTES_MAX        ((size_t)256 << 20)  /* one line of text or JSON */
#define JSON_FILE_BYTES_MAX   ((size_t)256 << 20)  /* config, tokenizer.json */
#define SAFETENSORS_HEADER_BYTES_MAX ((size_t)100 << 20)
#define TOKENS_MAX            8192                 /* longest sequence of any model */
#define LAYERS_MAX            256
#define DIMENSION_MAX         65536
#define VOCABULARY_MAX        4000000
#define K_MAX                 1000000              /* neighbours asked for at once */
#define FILTER_NODES_MAX      1024
#define FILTER_DEPTH_MAX      64
#define INDEX_KEY_BYTES_MAX   4096                 /* the key of a row */
#define STORE_FILE_BYTES_MAX  ((uint64_t)1 << 46)  /* an index file: 64 TiB */
#define STORE_BLOCKS_MAX      4096                 /* blocks of one frame of an index file */
#define STORE_SEGMENTS_MAX    4096                 /* live segments of an index file */
#define STORE_ROWS_MAX        UINT32_MAX           /* rows of one frame */
#define METADATA_BYTES_MAX    ((size_t)1 << 20)    /* JSON text of one row */
#define METADATA_FIELDS_MAX   1024                 /* of one row */
#define METADATA_TEXTS_MAX    16384                /* in all lists of one row */
#define METADATA_TEXT_BYTES_MAX ((size_t)1 << 16)  /* one value of a row */
#define METADATA_NAME_BYTES_MAX 256                /* name of a field */
#define REQUEST_ITEMS_MAX     10000                /* history or exclusions of one request */
#define POPULARITY_WEIGHT_MAX 100                  /* of a request */
#define USER_NAME_BYTES_MAX   256                  /* the id of a user */
#define USERS_ACTIVE_MAX      10000000             /* in memory at once */
#define COLUMNS_TAIL_ROWS_MAX ((size_t)1 << 24)
#define WINDOW_EVENTS_MAX     (1 << 26)            /* events inside a window of popularity */
#define CACHE_HISTORY_MAX     ((size_t)1 << 21)    /* past ratings that order a cache */
#define SAMPLES_MAX           ((uint64_t)1 << 40)  /* of a training set */
#define SAMPLE_TOKENS_MAX     65536                /* of the source or target of a sample */
#define SHARDS_MAX            100000               /* files of a training set */
#define AUDIT_SOURCES_MAX     65536                /* with cursors, in one audit log */
#define AUDIT_QUEUE_BYTES_MAX ((size_t)64 << 20)   /* submitted and not yet durable */
#define THREADS_MAX           1024
#define EVENT_BYTES_MAX       ((size_t)1 << 20)    /* one line of events */
#define EVENT_ID_BYTES_MAX    512
#define SOURCE_NAME_BYTES_MAX 250
#define NATS_IN_FLIGHT_MAX    16384                /* events taken and not yet stored */
#define SOCKET_CLIENTS_MAX    1024                 /* of one socket at once */
#define SOCKET_BYTES_MAX      ((size_t)64 << 20)   /* of half lines of all its clients */
#define EVENT_RING_BYTES_MAX  ((size_t)32 << 20)   /* events of a bus that wait to be taken */
#define EVENT_MASKED_BYTES    ((size_t)4096)       /* of an event that its kind is told by */
#define EVENT_QUEUE_BYTES_MAX ((size_t)64 << 20)   /* of one source, taken and not yet stored */
#define EVENT_QUEUE_MAX       ((size_t)1 << 20)    /* events of the same */
#define TEMPLATES_MAX         ((size_t)1 << 20)    /* kinds of events kept */
#define LABELS_MAX            ((size_t)4096)       /* of events, that thresholds follow */
#define SESSION_EVENTS_MAX    ((size_t)4096)       /* of one session, in order */
#define ALARM_KINDS_MAX       1024                 /* told apart at once */
#define ALARM_BYTES_MAX       ((size_t)8 << 20)    /* the JSON of one alarm */
#define ALARM_KEPT_BYTES_MAX  ((size_t)32 << 20)   /* of all that may be told again */
#define ALARM_QUEUE_MAX       ((size_t)1 << 20)    /* alarms that wait for a sink */
#define ALARM_QUEUE_BYTES_MAX ((size_t)64 << 20)   /* of them */
#define SESSIONS_MAX          ((size_t)1 << 20)    /* in memory at once */
#define EVENT_IDS_MAX         ((size_t)1 << 20)    /* ids by which a store tells what it has */
#define EVENT_RECORD_BYTES_MAX ((size_t)8 << 20)   /* an event in a store, all its texts */
#define EVENT_APPEND_BYTES_MAX ((size_t)1 << 30)   /* stored by one call */
#define EVENT_KIND_TEXT_MAX   ((size_t)1 << 16)    /* the text of a kind */
#define EVENT_SEGMENT_BYTES   ((uint64_t)32 << 20) /* where a segment of a store ends */
#define CARD_WAIT_NS          ((uint64_t)30 << 30) /* for what a GPU was asked: 32 s, */
#define CARD_WAIT_KERNEL_NS   ((uint64_t)1 << 28)  /* and 0.27 s more for each kernel of it */
#define RANKS_WAIT_NS         ((uint64_t)1800000000000) /* the same where it is for other ranks */

static_assert(TOKENS_MAX < 65536, "token positions fit in 16 bits");
