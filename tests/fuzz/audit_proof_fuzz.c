/* A proof of any bytes: refused with a message of one line, or what it proves is told. The file has
 * no name on a disk: it is reached through its descriptor. The corpus is of a log by this key. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "akin/audit.h"
#include "base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char key[] = "example.com/fuzz+1ab0691c+AcnoozGm0TsOoGFWYg2uVyTqKwhAfsRWtaRLYZHDMX0+";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", 0);
    char path[64];
    struct akin_audit_proof proof;
    struct akin_error error = {0};
    if (fd < 0)
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (write(fd, data, size) == (ssize_t)size) {
        if (akin_audit_verify_proof(path, key, NULL, &proof, &error) == AKIN_OK)
            ASSERT(!strcmp(proof.origin, "example.com/fuzz") &&
                   (proof.consistency ? proof.index <= proof.size : proof.index < proof.size));
        else
            ASSERT(error.message[0] && !strchr(error.message, '\n'));
        (void)akin_audit_verify_proof(path, key, path, &proof, &error);
    }
    close(fd);
    return 0;
}
