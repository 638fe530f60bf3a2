/* SPDX-License-Identifier: Apache-2.0
 * Status codes and the error text that every fallible call can fill. */
#ifndef AKIN_STATUS_H
#define AKIN_STATUS_H

#if defined(__GNUC__)
#define AKIN_API __attribute__((visibility("default")))
#else
#define AKIN_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/*    code              sentence */
#define AKIN_STATUS_LIST(X)                                                          \
    X(AKIN_OK,          "no error")                                                  \
    X(AKIN_ARGUMENT,    "an argument is missing, malformed or out of range")         \
    X(AKIN_NOT_FOUND,   "the thing asked for does not exist")                        \
    X(AKIN_IO,          "the operating system refused to read or write")             \
    X(AKIN_FORMAT,      "a file does not have the form that it should have")         \
    X(AKIN_UNSUPPORTED, "the input is valid but of a kind that is not supported")    \
    X(AKIN_LIMIT,       "a limit would be exceeded")                                 \
    X(AKIN_MEMORY,      "memory ran out")                                            \
    X(AKIN_NETWORK,     "a remote side did not answer as it should")                 \
    X(AKIN_BUSY,        "somebody else holds the resource")                          \
    X(AKIN_CANCELLED,   "the caller asked to stop")                                  \
    X(AKIN_NUMERIC,     "a computation gave a number that is not finite")

enum akin_status {
#define X(code, sentence) code,
    AKIN_STATUS_LIST(X)
#undef X
    AKIN_STATUS_COUNT
};

/* Filled by a call that returns something other than AKIN_OK; untouched otherwise. The caller
 * owns it, and may pass NULL wherever one is asked for. `message` is one line without a newline:
 * what failed, where (file, line, field) and, where there is one, the remedy. */
struct akin_error {
    enum akin_status status;
    char message[1024];
};

/* The sentence for a code; never NULL. Any thread. */
AKIN_API const char *akin_status_sentence(enum akin_status status);

#ifdef __cplusplus
}
#endif
#endif
