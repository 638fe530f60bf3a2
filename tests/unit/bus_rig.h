/* A message bus of a test's own: dbus-daemon on a socket in a folder. It dies with the test,
 * however that ends. */
#pragma once

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

struct bus {
    char folder[64], address[128];
    pid_t pid;
};

static inline bool bus_is_here(void)
{
    return !access("/usr/bin/dbus-daemon", X_OK);
}

/* `policy`: more elements of the default policy. */
static inline bool bus_start(struct bus *bus, const char *policy)
{
    char config[160], text[1024];
    snprintf(bus->address, sizeof bus->address, "unix:path=%s/bus", bus->folder);
    snprintf(config, sizeof config, "%s/bus.conf", bus->folder);
    int count = snprintf(text, sizeof text, "<busconfig><type>session</type><listen>%s</listen>"
                         "<auth>EXTERNAL</auth><policy context=\"default\">"
                         "<allow send_destination=\"*\" eavesdrop=\"true\"/>"
                         "<allow eavesdrop=\"true\"/><allow own=\"*\"/>%s</policy></busconfig>",
                         bus->address, policy);
    if (file_write(config, text, (size_t)count, NULL) != AKIN_OK)
        return false;
    pid_t parent = getpid();
    bus->pid = fork();
    if (!bus->pid) {
        char option[200];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        snprintf(option, sizeof option, "--config-file=%s", config);
        execl("/usr/bin/dbus-daemon", "dbus-daemon", "--nofork", "--nopidfile", option,
              (char *)NULL);
        _exit(127);
    }
    for (int i = 0; bus->pid > 0 && i < 1000; i++) {
        sd_bus *client = NULL;
        int r = sd_bus_new(&client);
        if (r >= 0 && (r = sd_bus_set_address(client, bus->address)) >= 0)
            r = sd_bus_start(client);
        sd_bus_close_unref(client);
        if (r >= 0)
            return true;
        clock_sleep_us(10000);
    }
    return false;
}

static inline void bus_stop(struct bus *bus)
{
    if (bus->pid > 0) {
        kill(bus->pid, SIGKILL);
        waitpid(bus->pid, NULL, 0);
    }
    bus->pid = 0;
}

/* Let in already: what it says goes out at once. */
static inline sd_bus *bus_connect(const struct bus *bus)
{
    sd_bus *client = NULL;
    const char *name;
    if (sd_bus_new(&client) < 0 || sd_bus_set_address(client, bus->address) < 0 ||
        sd_bus_set_bus_client(client, 1) < 0 || sd_bus_start(client) < 0 ||
        sd_bus_get_unique_name(client, &name) < 0)
        return sd_bus_close_unref(client);
    return client;
}

/* Another process says `count` signals as fast as the bus takes them, with numbers from 0. */
static inline pid_t bus_flood(const struct bus *bus, unsigned count, const char *filling)
{
    pid_t parent = getpid(), child = fork();
    if (child)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sd_bus *client = getppid() == parent ? bus_connect(bus) : NULL;
    int r = client ? 0 : -1;
    for (unsigned i = 0; r >= 0 && i < count; i++) {
        r = sd_bus_emit_signal(client, "/test", "org.akin.Test", "Number", "us", i, filling);
        if (r >= 0 && i % 256 == 255)
            r = sd_bus_flush(client);
    }
    if (r >= 0)
        r = sd_bus_flush(client);
    sd_bus_flush_close_unref(client);
    _exit(r >= 0 ? 0 : 1);
}

static inline bool bus_flooded(pid_t child)
{
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status);
}
