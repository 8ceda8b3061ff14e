/* cpus.c: how many processors this process may use.
 *
 * A limit of time holds for a control group and all below it, so the tightest of the process's own group and those
 * above it counts. /proc/self/cgroup names the group in each hierarchy; in a container the name may be one that
 * isn't to be seen there: then what is at the top of the hierarchy is the container's own. */
#include "platform/platform.h"

#include "platform/linux/text.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NO_LIMIT UINT32_MAX

/* Where a hierarchy may be mounted, and how it tells its limit. */
static const struct hierarchy {
    const char *folder;
    int unified;
} hierarchies[] = {{"/sys/fs/cgroup", 1}, {"/sys/fs/cgroup/unified", 1}, {"/sys/fs/cgroup/cpu", 0},
                   {"/sys/fs/cgroup/cpu,cpuacct", 0}};

static int
read_group_file(const char *folder, const char *group, const char *file, char *text, size_t room)
{
    char path[4096];
    int length = snprintf(path, sizeof(path), "%s%s/%s", folder, group, file);
    return length > 0 && (size_t)length < sizeof(path) && fmp_text_read(path, text, room) > 0;
}

/* The limit that is written at one group, in processors, rounded up. */
static uint32_t
limit_of(const struct hierarchy *h, const char *group)
{
    char text[64];
    long long quota = 0, period = 0;
    if (h->unified) {
        if (!read_group_file(h->folder, group, "cpu.max", text, sizeof(text)) ||
            sscanf(text, "%lld %lld", &quota, &period) != 2) /* "max" is no number */
            return NO_LIMIT;
    }
    else {
        if (read_group_file(h->folder, group, "cpu.cfs_quota_us", text, sizeof(text)))
            quota = atoll(text);
        if (read_group_file(h->folder, group, "cpu.cfs_period_us", text, sizeof(text)))
            period = atoll(text);
    }
    return quota > 0 && period > 0 ? (uint32_t)((quota + period - 1) / period) : NO_LIMIT;
}

/* Of the group and all above it. `group` is cut down to nothing. */
static uint32_t
tightest(const struct hierarchy *h, char *group)
{
    uint32_t limit = NO_LIMIT, found;
    for (;;) {
        if ((found = limit_of(h, group)) < limit)
            limit = found;
        char *last = strrchr(group, '/');
        if (last == NULL)
            return limit;
        *last = '\0';
    }
}

/* Is this the hierarchy that the controllers, as /proc/self/cgroup lists them, belong to? */
static int
governs_time(const char *controllers, int unified)
{
    size_t length = strlen(controllers);
    if (unified)
        return length == 0;
    return strcmp(controllers, "cpu") == 0 || strncmp(controllers, "cpu,", 4) == 0 ||
           strstr(controllers, ",cpu,") != NULL || (length > 4 && strcmp(controllers + length - 4, ",cpu") == 0);
}

/* The limit by one line of /proc/self/cgroup: number:controllers:/group */
static uint32_t
limit_by(char *line)
{
    uint32_t limit = NO_LIMIT;
    char *controllers = strchr(line, ':');
    char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (group == NULL)
        return NO_LIMIT;
    *group++ = '\0';
    for (size_t i = 0; i < sizeof(hierarchies) / sizeof(*hierarchies); i++) {
        char copy[2048];
        if (!governs_time(controllers + 1, hierarchies[i].unified) || strlen(group) >= sizeof(copy))
            continue;
        uint32_t found = tightest(&hierarchies[i], strcpy(copy, group));
        limit = found < limit ? found : limit;
    }
    return limit;
}

static uint32_t
quota(void)
{
    char text[8192], *rest = text, *line;
    uint32_t limit = NO_LIMIT;
    if (fmp_text_read("/proc/self/cgroup", text, sizeof(text)) <= 0)
        return NO_LIMIT;
    while ((line = strsep(&rest, "\n")) != NULL) {
        uint32_t found = limit_by(line);
        limit = found < limit ? found : limit;
    }
    return limit;
}

uint32_t
fmp_cpu_current(void)
{
    return (uint32_t)(sched_getcpu() + 1);
}

uint32_t
fmp_cpu_count(void)
{
    cpu_set_t set;
    uint32_t count = 0;
    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        count = (uint32_t)CPU_COUNT(&set);
    if (count == 0) /* more processors than a cpu_set_t holds */
        count = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t limit = quota();
    if (limit < count)
        count = limit;
    return count == 0 ? 1 : count;
}
