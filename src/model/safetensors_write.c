/* See safetensors_write.h. */
#include "model/safetensors_write.h"

#include <string.h>

#include "base/json.h"

enum { EMPTY, IN_METADATA, IN_TENSORS };

static void append_key(struct safetensors_header *header, const char *key)
{
    if (header->state == EMPTY)
        bytes_append_text(&header->text, "12345678{");      /* room for the length */
    else
        bytes_append_text(&header->text, ",");
    json_append_string(&header->text, key, strlen(key));
    bytes_append_text(&header->text, ":");
}

size_t safetensors_describe_text(struct safetensors_header *header, const char *key,
                                 const char *text)
{
    ASSERT(header->state != IN_TENSORS);
    if (header->state == EMPTY) {
        append_key(header, "__metadata__");
        bytes_append_text(&header->text, "{");
        json_append_string(&header->text, key, strlen(key));
        bytes_append_text(&header->text, ":");
    } else {
        append_key(header, key);
    }
    header->state = IN_METADATA;
    size_t at = header->text.count + 1;
    json_append_string(&header->text, text, strlen(text));
    return at;
}

void safetensors_describe_tensor(struct safetensors_header *header, const char *name,
                                 enum safetensors_type type, size_t dims, const size_t *shape)
{
    if (header->state == IN_METADATA)
        bytes_append_text(&header->text, "}");
    append_key(header, name);
    header->state = IN_TENSORS;
    uint64_t bytes = safetensors_type_bytes(type);
    bytes_printf(&header->text, "{\"dtype\":\"%s\",\"shape\":[", safetensors_type_name(type));
    for (size_t i = 0; i < dims; i++) {
        bytes_printf(&header->text, "%s%zu", i ? "," : "", shape[i]);
        bytes *= shape[i];
    }
    bytes_printf(&header->text, "],\"data_offsets\":[%llu,%llu]}",
                 (unsigned long long)header->data_bytes,
                 (unsigned long long)(header->data_bytes + bytes));
    header->data_bytes += bytes;
}

enum akin_status safetensors_put_header(struct safetensors_header *header,
                                        struct file_writer *writer, struct akin_error *error)
{
    struct bytes *text = &header->text;
    if (header->state == EMPTY)
        bytes_append_text(text, "12345678{");
    bytes_append_text(text, header->state == IN_METADATA ? "}}" : "}");
    while (!text->failed && text->count % 64)
        bytes_append_text(text, " ");
    if (text->failed)
        return error_memory(error);
    uint64_t length = text->count - 8;
    for (int i = 0; i < 8; i++)
        text->data[i] = (char)(length >> 8 * i);
    return writer ? file_writer_write(writer, text->data, text->count, error) : AKIN_OK;
}

void safetensors_header_deinit(struct safetensors_header *header)
{
    bytes_deinit(&header->text);
}
