/* A signed note, and a key, of any bytes: refused with a message of one line, or spelled exactly as
 * we would spell what was read, so that no byte of one can change unseen. */
#include <string.h>

#include "audit/note.h"
#include "base/base64.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_note(const char *text, size_t size)
{
    struct checkpoint note;
    struct akin_error error = {0};
    struct bytes again = {0};
    struct public_key key = {.type = KEY_LOG};
    if (checkpoint_parse(text, size, "fuzz", &note, &error) != AKIN_OK) {
        ASSERT(error.message[0] && !strchr(error.message, '\n'));
        return;
    }
    checkpoint_text(&again, note.origin, note.size, &note.root);
    ASSERT(again.count == note.text_bytes);
    bytes_append_text(&again, "\n");
    for (size_t i = 0; i < note.signature_count; i++) {
        unsigned char blob[4 + sizeof note.signatures[i].bytes];
        memcpy(blob, note.signatures[i].id, 4);
        memcpy(blob + 4, note.signatures[i].bytes, note.signatures[i].count);
        bytes_append_text(&again, "\xe2\x80\x94 ");
        bytes_append(&again, note.signatures[i].name, note.signatures[i].name_bytes);
        bytes_append_text(&again, " ");
        base64_append(&again, blob, 4 + note.signatures[i].count);
        bytes_append_text(&again, "\n");
    }
    ASSERT(!again.failed && again.count == size && !memcmp(again.data, text, size));
    memcpy(key.name, note.origin, sizeof key.name);
    ASSERT(!checkpoint_has(&note, &key));   /* a key of zeros signs nothing */
    bytes_deinit(&again);
}

static void try_key(const char *text, size_t size)
{
    struct public_key key;
    struct akin_error error = {0};
    char again[AKIN_AUDIT_KEY_TEXT_BYTES];
    if (public_key_parse(text, size, "fuzz", &key, &error) != AKIN_OK) {
        ASSERT(error.message[0] && !strchr(error.message, '\n'));
        return;
    }
    public_key_text(&key, again);
    size_t bytes = strlen(again);
    ASSERT((size == bytes || (size == bytes + 1 && text[bytes] == '\n')) &&
           !memcmp(again, text, bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_note((const char *)data, size);
    try_key((const char *)data, size);
    return 0;
}
