#include "measure.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

#define BINS_PER_POWER 32

static uint64_t read_clock(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time) != 0) return 0;
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t now(void) { return read_clock(CLOCK_MONOTONIC); }

uint64_t cpu_of(pid_t pid) {
    clockid_t clock;
    return clock_getcpuclockid(pid, &clock) == 0 ? read_clock(clock) : 0;
}

static unsigned bin_of(uint64_t value) {
    if (value < BINS_PER_POWER) return (unsigned)value;
    unsigned power = 63u - (unsigned)__builtin_clzll(value) - 5u;
    return (power + 1) * BINS_PER_POWER + (unsigned)(value >> power) - BINS_PER_POWER;
}

static double middle_of(unsigned bin) {
    if (bin < BINS_PER_POWER) return bin;
    unsigned power = bin / BINS_PER_POWER - 1;
    return ((double)(bin % BINS_PER_POWER) + BINS_PER_POWER + 0.5) * (double)(1ull << power);
}

void add_wait(struct waits *waits, uint64_t nanoseconds) {
    waits->count++;
    if (nanoseconds > waits->longest) waits->longest = nanoseconds;
    waits->bins[bin_of(nanoseconds)]++;
}

double percentile(const struct waits *waits, double share) {
    uint64_t seen = 0;
    for (unsigned bin = 0; bin < BINS; bin++) {
        seen += waits->bins[bin];
        if (seen > 0 && (double)seen >= share * (double)waits->count) {
            double value = middle_of(bin);
            return (value > (double)waits->longest ? (double)waits->longest : value) / 1e3;
        }
    }
    return 0;
}

/* User and kernel time, in ticks. */
static void read_ticks(pid_t pid, uint64_t ticks[2]) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    ticks[0] = ticks[1] = 0;
    if (file == NULL) return;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *rest = strrchr(text, ')');
    unsigned long user = 0, kernel = 0;
    if (rest != NULL) sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
    ticks[0] = user;
    ticks[1] = kernel;
}

static long resident_kib(pid_t pid) {
    char path[64];
    long total = 0, resident = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%ld %ld", &total, &resident) != 2) resident = 0;
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

struct interval begin_interval(pid_t daemon) {
    struct interval interval = {.daemon = daemon};
    read_ticks(daemon, interval.ticks);
    interval.own_cpu = cpu_of(getpid());
    interval.daemon_cpu = cpu_of(daemon);
    interval.start = now();
    return interval;
}

void print_interval(const struct interval *interval) {
    uint64_t end = now(), daemon_cpu = cpu_of(interval->daemon), own_cpu = cpu_of(getpid()), ticks[2];
    read_ticks(interval->daemon, ticks);
    double used = (double)(daemon_cpu - interval->daemon_cpu) / 1e9;
    double user = (double)(ticks[0] - interval->ticks[0]), kernel = (double)(ticks[1] - interval->ticks[1]);
    double kernel_share = user + kernel > 0 ? kernel / (user + kernel) : 0;
    printf("\"seconds\": %.6f, \"daemonCpu\": %.6f, \"kernelShare\": %.3f, \"ownCpu\": %.6f, \"rssKiB\": %ld",
           (double)(end - interval->start) / 1e9, used, kernel_share, (double)(own_cpu - interval->own_cpu) / 1e9,
           resident_kib(interval->daemon));
}

void print_waits(const struct waits *waits, uint64_t calls, double seconds) {
    printf("\"calls\": %lu, \"rate\": %.1f, \"p50\": %.1f, \"p99\": %.1f, \"max\": %.1f", (unsigned long)calls,
           (double)calls / seconds, percentile(waits, 0.5), percentile(waits, 0.99), (double)waits->longest / 1e3);
}

long open_descriptors(pid_t pid) {
    char path[64];
    struct stat about;
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    /* Its size is the number of entries since Linux 6.2. */
    if (stat(path, &about) != 0) fail("stat %s: %s", path, strerror(errno));
    return (long)about.st_size;
}
