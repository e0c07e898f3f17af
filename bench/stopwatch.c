/*
 * Runs the program at REAL with its own arguments, environment and input, and appends to LOG how long that took, from
 * before its exec to after its end, in nanoseconds of CLOCK_MONOTONIC. It ends as that program did. It goes before
 * everybody else itself, so that what is measured is not how long it waits for a processor; the program is as it was.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int count, char **words)
{
    char line[32];
    int status = 0;
    int usual = getpriority(PRIO_PROCESS, 0);
    setpriority(PRIO_PROCESS, 0, -20);
    long long began = now();
    pid_t child = vfork();
    (void)count;
    if (child == 0) {
        setpriority(PRIO_PROCESS, 0, usual);
        execv(REAL, words);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0)
        return 127;
    int length = snprintf(line, sizeof line, "%lld\n", now() - began);
    int log = open(LOG, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (log < 0 || write(log, line, length) != length)
        return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
