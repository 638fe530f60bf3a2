/* Download of a model from a server with the Hugging Face layout: a listing at
 * HUB/api/models/OWNER/NAME/tree/REVISION and files at HUB/OWNER/NAME/resolve/REVISION/PATH. Takes
 * only what a text encoder needs, verifies size and checksum of every file, and puts the folder in
 * place by one rename. No host is known here. */
#pragma once

#include "akin/model.h"

/* As akin_pull_settings_default; home and hub are left NULL. */
void model_pull_settings_default(struct akin_pull_settings *settings);

/* As akin_model_pull. What an interrupted pull has brought is kept in HOME/models/.pull-NAME and
 * used by the next one. AKIN_BUSY: another pull of the same model is running. `log` may be NULL. */
enum akin_status model_pull(const char *name, const struct akin_pull_settings *settings,
                            const struct akin_log *log, char *path, size_t path_bytes,
                            struct akin_error *error);
