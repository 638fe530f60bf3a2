/* The state of a user of any bytes, its checksum put right: taken or refused; what is taken can be
 * written again, what is refused leaves nothing behind. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "recommend/users_state.h"

enum { DIM = 3, ITEMS = 50 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const struct user_fold *fold, struct shard *shard, const void *bytes,
                   size_t count)
{
    uint32_t slot = shard_take(shard, 1, "user");
    struct user_slot *u = shard_slot(shard, slot);
    struct bytes again = { 0 };
    if (user_state_decode(fold, shard, u, bytes, count)) {
        user_state_encode(fold, shard, u, &again);
        struct akin_rating recent[USER_RECENT];
        if (again.failed || user_slot_recent(u, recent) > USER_RECENT || u->seen_count > ITEMS)
            abort();
    } else if (u->seen_count || u->seen != SLOT_NONE || u->count) {
        abort();
    }
    bytes_deinit(&again);
    shard_return(shard, slot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const float vectors[ITEMS * DIM];
    struct user_fold fold = { .vectors = vectors, .dim = DIM, .items = ITEMS, .fast = 0.3f,
                              .slow = 0.02f };
    struct shard shard;
    unsigned char *slots = memory_alloc_aligned(2, shard_slot_bytes(DIM));
    unsigned char *bytes = memory_alloc(size + 8, 1);
    if (slots && bytes && shard_init(&shard, slots, DIM, 1)) {
        uint64_t checksum = hash_bytes(data, size);
        memcpy(bytes, data, size);
        memcpy(bytes + size, &checksum, sizeof checksum);
        decode(&fold, &shard, bytes, size + sizeof checksum);
        decode(&fold, &shard, data, size);
        shard_deinit(&shard);
    }
    memory_free(slots);
    memory_free(bytes);
    return 0;
}
