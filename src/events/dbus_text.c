#include "events/dbus_text.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/utf8.h"

/* Items of an array beyond those shown are counted up to here; a message may hold millions. */
enum { ITEMS_COUNTED = 4096, BYTES_SHOWN = 16 };

/* ---- strings ----------------------------------------------------------------------------- */

static bool is_plain(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 127 || strchr("\"\\()[]{}", text[i]))
            return false;
    return bytes > 0;
}

static void add_escaped(struct bytes *out, const char *text, size_t bytes)
{
    bytes_append(out, "\"", 1);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            bytes_printf(out, "\\%c", c);
        else if (c == '\n')
            bytes_append_text(out, "\\n");
        else if (c == '\t')
            bytes_append_text(out, "\\t");
        else if (c < ' ' || c == 127)
            bytes_printf(out, "\\x%02x", c);
        else
            bytes_append(out, text + i, 1);
    }
    bytes_append(out, "\"", 1);
}

static void add_string(struct bytes *out, const char *text, size_t bytes)
{
    size_t shown = bytes;
    if (shown > DBUS_TEXT_STRING_BYTES) {
        shown = DBUS_TEXT_STRING_BYTES;
        while (shown && ((unsigned char)text[shown] & 0xc0) == 0x80)    /* inside a character */
            shown--;
    }
    if (is_plain(text, shown))
        bytes_append(out, text, shown);
    else
        add_escaped(out, text, shown);
    if (shown < bytes)
        bytes_printf(out, "...(%zu bytes)", bytes);
}

/* An array of bytes: often a path or a name, with or without a NUL behind. */
static void add_bytes(struct bytes *out, const unsigned char *data, size_t bytes)
{
    size_t text = bytes && !data[bytes - 1] ? bytes - 1 : bytes;
    bool readable = text && !memchr(data, 0, text) && utf8_valid((const char *)data, text);
    for (size_t i = 0; readable && i < text; i++)
        readable = data[i] >= ' ' && data[i] != 127;
    if (readable) {
        add_string(out, (const char *)data, text);
        return;
    }
    bytes_append_text(out, "0x");
    for (size_t i = 0; i < bytes && i < BYTES_SHOWN; i++)
        bytes_printf(out, "%02x", data[i]);
    if (bytes > BYTES_SHOWN)
        bytes_printf(out, "...(%zu bytes)", bytes);
}

/* ---- values ------------------------------------------------------------------------------ */

static int add_basic(struct bytes *out, sd_bus_message *message, char type)
{
    union {
        uint8_t y;
        int b;
        int16_t n;
        uint16_t q;
        int32_t i;
        uint32_t u;
        int64_t x;
        uint64_t t;
        double d;
        const char *s;
        int h;
    } v;
    int r = sd_bus_message_read_basic(message, type, &v);
    if (r <= 0)
        return r < 0 ? r : -EBADMSG;
    switch (type) {
    case 'y': bytes_printf(out, "%u", v.y); break;
    case 'b': bytes_append_text(out, v.b ? "true" : "false"); break;
    case 'n': bytes_printf(out, "%d", v.n); break;
    case 'q': bytes_printf(out, "%u", v.q); break;
    case 'i': bytes_printf(out, "%" PRId32, v.i); break;
    case 'u': bytes_printf(out, "%" PRIu32, v.u); break;
    case 'x': bytes_printf(out, "%" PRId64, v.x); break;
    case 't': bytes_printf(out, "%" PRIu64, v.t); break;
    case 'd': bytes_printf(out, "%.15g", v.d); break;
    case 'h': bytes_append_text(out, "fd"); break;
    default: add_string(out, v.s, strlen(v.s)); break;
    }
    return 0;
}

static int add_values(struct bytes *out, sd_bus_message *message, char inside, unsigned depth);

static int add_container(struct bytes *out, sd_bus_message *message, char type,
                         const char *contents, unsigned depth)
{
    const char *brackets = type == 'r' ? "()" : type == 'a' && *contents == '{' ? "{}"
                           : type == 'a' ? "[]" : "";
    if (depth == DBUS_TEXT_DEPTH) {
        bytes_append_text(out, "...");
        int r = sd_bus_message_skip(message, NULL);
        return r < 0 ? r : 0;
    }
    int r = sd_bus_message_enter_container(message, type, contents);
    if (r <= 0)
        return r < 0 ? r : -EBADMSG;
    bytes_append(out, brackets, *brackets ? 1 : 0);
    r = add_values(out, message, type, depth + 1);
    bytes_append(out, brackets + 1, *brackets ? 1 : 0);
    if (r >= 0)
        r = sd_bus_message_exit_container(message);
    return r < 0 ? r : 0;
}

static int add_value(struct bytes *out, sd_bus_message *message, char type, const char *contents,
                     unsigned depth)
{
    const void *data;
    size_t bytes;
    if (type == 'a' && !strcmp(contents, "y") &&
        sd_bus_message_read_array(message, 'y', &data, &bytes) >= 0) {
        add_bytes(out, data, bytes);
        return 0;
    }
    return contents ? add_container(out, message, type, contents, depth)
                    : add_basic(out, message, type);
}

/* The rest of an array of which enough was shown. */
static int count_rest(struct bytes *out, sd_bus_message *message)
{
    size_t more = 0;
    char type;
    int r;
    while ((r = sd_bus_message_peek_type(message, &type, NULL)) > 0) {
        if (more == ITEMS_COUNTED)      /* the rest of the message is not read */
            return -E2BIG;
        if ((r = sd_bus_message_skip(message, NULL)) < 0)
            return r;
        more++;
    }
    if (more)
        bytes_printf(out, " ...(%zu more)", more);
    return r;
}

/* Everything up to the end of what was entered, of type `inside`; 0 for the message itself. */
static int add_values(struct bytes *out, sd_bus_message *message, char inside, unsigned depth)
{
    for (size_t items = 0;; items++) {
        const char *contents;
        char type;
        if (inside == 'a' && items == DBUS_TEXT_ITEMS)
            return count_rest(out, message);
        int r = sd_bus_message_peek_type(message, &type, &contents);
        if (r <= 0)
            return r;
        if (out->count >= DBUS_TEXT_BYTES)
            return -E2BIG;
        if (items || !inside)
            bytes_append(out, inside == 'e' ? "=" : " ", 1);
        if ((r = add_value(out, message, type, contents, depth)) < 0)
            return r;
    }
}

/* ---- the line ---------------------------------------------------------------------------- */

static void add_head(struct bytes *out, sd_bus_message *message)
{
    const char *interface = sd_bus_message_get_interface(message);
    const char *member = sd_bus_message_get_member(message);
    const char *path = sd_bus_message_get_path(message);
    const sd_bus_error *failure = sd_bus_message_get_error(message);
    if (failure && failure->name)
        bytes_append_text(out, failure->name);
    else if (!member)
        bytes_append_text(out, "return");
    if (interface && member)
        bytes_printf(out, "%s.", interface);
    if (member)
        bytes_append_text(out, member);
    if (path) {
        bytes_append(out, " ", 1);
        add_string(out, path, strlen(path));
    }
}

bool dbus_text(sd_bus_message *message, struct bytes *out)
{
    bytes_clear(out);
    add_head(out, message);
    if (add_values(out, message, 0, 0) < 0)
        bytes_append_text(out, " ...");
    return !out->failed;
}
