/* SPDX-License-Identifier: Apache-2.0
 * Settings with their origin: defaults < akin.ini < environment AKIN_* < flags. */
#ifndef AKIN_SETTINGS_H
#define AKIN_SETTINGS_H

#include "akin/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

struct akin_settings;

/* Starts with the defaults. */
AKIN_API enum akin_status akin_settings_create(struct akin_settings **settings,
                                               struct akin_error *error);
AKIN_API void akin_settings_destroy(struct akin_settings **settings);

/* Reads an ini file (`key = value`, section [akin] or none). A missing file is no error when
 * `optional`; an unknown key or a bad value is AKIN_FORMAT naming file, line and key. */
AKIN_API enum akin_status akin_settings_load(struct akin_settings *settings, const char *path,
                                             bool optional, struct akin_error *error);
/* Reads AKIN_HOME, AKIN_DATA, AKIN_MODEL, ... of the process's environment. */
AKIN_API enum akin_status akin_settings_load_environment(struct akin_settings *settings,
                                                         struct akin_error *error);
/* The whole chain below flags: $XDG_CONFIG_HOME/akin/akin.ini (or ~/.config), then the
 * environment. No file of the current folder is read: a folder must not change what a program does.
 */
AKIN_API enum akin_status akin_settings_resolve(struct akin_settings *settings,
                                                struct akin_error *error);

/* Sets `key` from `origin` (such as "--threads"). Values are checked: AKIN_ARGUMENT names what is
 * allowed. */
AKIN_API enum akin_status akin_settings_set(struct akin_settings *settings, const char *key,
                                            const char *value, const char *origin,
                                            struct akin_error *error);

/* The value of a key, never NULL for a key that exists ("" where unset); NULL otherwise. Valid
 * until the next change. Keys: home data model device precision threads pin numa cpu
 * place cuda_library hub. */
AKIN_API const char *akin_settings_get(const struct akin_settings *settings, const char *key);

struct akin_setting {
    const char *key, *value, *origin, *help;
};

/* The i-th setting; false past the last one. */
AKIN_API bool akin_settings_at(const struct akin_settings *settings, size_t i,
                               struct akin_setting *setting);

/* Fills engine settings (threads, pin, numa, device, place, cuda_library, cpu, home) from these;
 * strings are borrowed. */
AKIN_API void akin_settings_engine(const struct akin_settings *settings,
                                   struct akin_engine_settings *engine);

#ifdef __cplusplus
}
#endif
#endif
