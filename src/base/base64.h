/* Base64 with padding (RFC 4648, section 4), in its one canonical spelling: unused bits are 0. What
 * libsodium reads besides, some bytes above 127, is refused. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"

void base64_append(struct bytes *out, const void *bytes, size_t count);
/* out [bytes]; false where the text [count] is anything but so many bytes. */
bool base64_read(const char *text, size_t count, void *out, size_t bytes);
/* However many there are. */
bool base64_decode(const char *text, size_t count, struct bytes *out);
