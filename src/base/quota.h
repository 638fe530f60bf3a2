/* The share of the machine that a control group allows. */
#pragma once

/* The least quota of the groups named in `self` (as /proc/self/cgroup) and of those above them, in
 * CPUs rounded up, at most THREADS_MAX; 0 where there is none. `root` is where the groups are
 * mounted. */
int quota_cpus(const char *self, const char *root);

/* Of this process. */
int quota_of_process(void);
