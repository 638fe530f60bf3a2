/* Text brought to the form in which two spellings of one word are equal. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"

/* Appends `text` case-folded and composed (NFC); invalid UTF-8 becomes U+FFFD. "STRASSE" and
 * "Straße" are equal then; "a" and "á" are not. false: memory is out. */
bool fold_append(struct bytes *out, const char *text, size_t bytes);
