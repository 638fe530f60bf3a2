/* Lines of any bytes as events: views lie in the object, the mask is bounded, kinds can be found.
 */
#include <stdint.h>
#include <stdlib.h>

#include "events/event.h"
#include "watch/mask.h"
#include "watch/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct event event = {0};
    struct bytes masked = {0};
    struct templates *kinds = templates_create(8);
    unsigned sum = 0;
    for (int form = EVENT_JSONL; form <= EVENT_PLAIN && kinds; form++) {
        struct akin_error error;
        bool added;
        if (event_parse(&event, (enum event_form)form, (const char *)data, size, NULL, 0,
                        "fuzz:1", &error) != AKIN_OK)
            continue;
        for (size_t i = 0; i < event.text_bytes; i++)
            sum += (unsigned char)event.text[i];
        mask_text(event.text, event.text_bytes, &masked);
        if (masked.failed)
            break;
        if (masked.count > 6 * event.text_bytes)
            abort();
        uint32_t slot = templates_find(kinds, masked.data ? masked.data : "", masked.count, &added);
        if (slot != templates_find(kinds, masked.data ? masked.data : "", masked.count, &added)
            || added)
            abort();
    }
    event_clear(&event);
    bytes_deinit(&masked);
    templates_destroy(&kinds);
    return sum == 0x12345678;
}
