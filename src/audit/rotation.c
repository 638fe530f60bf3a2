/* Records of kind key: two verifier keys and a signature, each in a line. */
#include "audit/rotation.h"

#include <inttypes.h>
#include <string.h>

#include "base/base64.h"

static void message(struct bytes *out, const char *origin, uint64_t index, const char *new)
{
    bytes_printf(out, "akin audit key rotation 1\n%s\n%" PRIu64 "\n%s\n", origin, index, new);
}

void rotation_append(struct bytes *out, const struct signer *old, const struct public_key *new,
                     uint64_t index)
{
    char old_text[AKIN_AUDIT_KEY_TEXT_BYTES], new_text[AKIN_AUDIT_KEY_TEXT_BYTES];
    unsigned char signature[SIGNATURE_BYTES];
    struct bytes signed_text = {0};
    public_key_text(&old->key, old_text);
    public_key_text(new, new_text);
    message(&signed_text, old->key.name, index, new_text);
    if (!signed_text.failed)
        signer_sign(old, signed_text.data, signed_text.count, signature);
    bytes_printf(out, "%s\n%s\n", old_text, new_text);
    base64_append(out, signature, sizeof signature);
    bytes_append_text(out, "\n");
    out->failed = out->failed || signed_text.failed;
    bytes_deinit(&signed_text);
}

const char *rotation_read(const struct entry *entry, uint64_t index, struct rotation *rotation)
{
    const char *line[3], *at = (const char *)entry->data, *end = at + entry->bytes;
    size_t bytes[3];
    char new_text[AKIN_AUDIT_KEY_TEXT_BYTES];
    unsigned char signature[SIGNATURE_BYTES];
    for (size_t i = 0; i < 3; i++) {
        const char *newline = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
        if (!newline)
            return "it does not name two keys and a signature";
        line[i] = at;
        bytes[i] = (size_t)(newline - at);
        at = newline + 1;
    }
    if (at != end || !base64_read(line[2], bytes[2], signature, sizeof signature) ||
        public_key_parse(line[0], bytes[0], "", &rotation->old, NULL) ||
        public_key_parse(line[1], bytes[1], "", &rotation->new, NULL) ||
        rotation->old.type != KEY_LOG || rotation->new.type != KEY_LOG ||
        strcmp(rotation->old.name, rotation->new.name))
        return "it does not name two keys of this log";
    struct bytes text = {0};
    public_key_text(&rotation->new, new_text);
    message(&text, rotation->old.name, index, new_text);
    bool valid = !text.failed &&
                 signature_valid(&rotation->old, text.data, text.count, signature);
    bytes_deinit(&text);
    return valid ? NULL : "the old key has not signed it";
}

static bool push(struct key_chain *chain, const struct public_key *key, uint64_t from)
{
    if (!array_reserve((void **)&chain->items, &chain->capacity, chain->count + 1,
                       sizeof *chain->items))
        return false;
    chain->items[chain->count++] = (struct chain_key){*key, from};
    return true;
}

const char *key_chain_add(struct key_chain *chain, const struct rotation *rotation, uint64_t index)
{
    if (chain->count == 0 && !push(chain, &rotation->old, 0))
        return "memory ran out";
    if (!public_key_equal(&chain->items[chain->count - 1].key, &rotation->old))
        return "it does not follow the key before it";
    return push(chain, &rotation->new, index + 1) ? NULL : "memory ran out";
}

const struct public_key *key_chain_at(const struct key_chain *chain, uint64_t size)
{
    const struct public_key *key = NULL;
    for (size_t i = 0; i < chain->count && (i == 0 || chain->items[i].from <= size); i++)
        key = &chain->items[i].key;
    return key;
}

void key_chain_deinit(struct key_chain *chain)
{
    memory_free(chain->items);
    *chain = (struct key_chain){0};
}
