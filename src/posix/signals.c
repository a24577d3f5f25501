/* Signals, and exec, during which none may be lost. guard.c keeps them blocked while the runtime starts. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "addon.h"
#include "mask.h"
#include "napi-helpers.h"

/* Signals that end the daemon in order. An executed program would not learn of one that came before. */
static const int end_signals[] = {SIGTERM, SIGINT, SIGQUIT};
#define END_SIGNALS (sizeof(end_signals) / sizeof(end_signals[0]))

/* ---- the mask ------------------------------------------------------------------------------------------------- */

/* Defined if guard.c is preloaded. */
extern void end_guard(void) __attribute__((weak));

static bool are_blocked;

/* Of this thread alone: guard.c blocks signals in the others. */
static void set_mask(bool full) { change_mask(SIG_SETMASK, full ? ALL_SIGNALS : NO_SIGNALS, NULL); }

static napi_value posix_block_signals(napi_env env, napi_callback_info info) {
    (void)env;
    (void)info;
    set_mask(are_blocked = true);
    return NULL;
}

static napi_value posix_is_guarded(napi_env env, napi_callback_info info) {
    (void)info;
    napi_value result;
    napi_get_boolean(env, end_guard != NULL, &result);
    return result;
}

static napi_value posix_release_signals(napi_env env, napi_callback_info info) {
    (void)env;
    (void)info;
    if (end_guard != NULL) end_guard();
    set_mask(are_blocked = false);
    return NULL;
}

/* ---- strays --------------------------------------------------------------------------------------------------- */

/*
 * Signals without a meaning for the daemon, whose default action ends the process, as that of the real-time signals does. They get
 * handlers, not SIG_IGN: an executed program then has the default action again.
 */
static const int strays[] = {SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGSTKFLT, SIGPWR, SIGXCPU};
#define KERNEL_SIGNALS 64

static struct {
    napi_env env;
    napi_ref callback;
    uv_async_t wake;
    /* By signal: the pid of its first sender, plus one; 0 for none. A handler writes it, so each access must be atomic. */
    volatile sig_atomic_t sender[KERNEL_SIGNALS + 1];
    bool reported[KERNEL_SIGNALS + 1];
} stray;

static void note_stray(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (stray.sender[signal] != 0) return;
    int error = errno;
    /* A positive code is the kernel's: a timer, a limit. */
    stray.sender[signal] = (info->si_code > 0 ? 0 : info->si_pid) + 1;
    uv_async_send(&stray.wake);
    errno = error;
}

static void report_strays(uv_async_t *wake) {
    (void)wake;
    for (int signal = 1; signal <= KERNEL_SIGNALS; signal++) {
        if (stray.sender[signal] == 0 || stray.reported[signal]) continue;
        stray.reported[signal] = true;
        const int32_t arguments[] = {signal, stray.sender[signal] - 1};
        call_back(stray.env, stray.callback, 2, arguments);
    }
}

static napi_value posix_ignore_strays(napi_env env, napi_callback_info info) {
    ARGS(1);
    uv_loop_t *loop;
    struct sigaction action = {.sa_sigaction = note_stray, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    stray.env = env;
    napi_create_reference(env, argv[0], 1, &stray.callback);
    napi_get_uv_event_loop(env, &loop);
    int status = uv_async_init(loop, &stray.wake, report_strays);
    if (status < 0) return number(env, status);
    uv_unref((uv_handle_t *)&stray.wake);

    for (size_t i = 0; i < sizeof(strays) / sizeof(strays[0]); i++) sigaction(strays[i], &action, NULL);
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) sigaction(signal, &action, NULL);
    /* Ignored, not handled: a breakpoint in compiled code then still ends the process. */
    sigaction(SIGTRAP, &ignore, NULL);
    return number(env, 0);
}

/* ---- exec ----------------------------------------------------------------------------------------------------- */

char **string_vector(napi_env env, napi_value array) {
    uint32_t count = 0;
    napi_get_array_length(env, array, &count);
    char **vector = calloc(count + 1, sizeof(*vector));
    if (vector == NULL) return NULL;
    for (uint32_t i = 0; i < count; i++) {
        napi_value item;
        size_t length = 0;
        napi_get_element(env, array, i, &item);
        napi_get_value_string_latin1(env, item, NULL, 0, &length);
        vector[i] = malloc(length + 1);
        if (vector[i] == NULL) abort();
        napi_get_value_string_latin1(env, item, vector[i], length + 1, &length);
    }
    return vector;
}

void free_vector(char **vector) {
    for (char **item = vector; item != NULL && *item != NULL; item++) free(*item);
    free(vector);
}

static bool is_end_pending(void) {
    sigset_t waiting;
    sigpending(&waiting);
    for (size_t i = 0; i < END_SIGNALS; i++) {
        if (sigismember(&waiting, end_signals[i])) return true;
    }
    return false;
}

/* The dispositions that a C daemon has after an exec of its own, when it also has no signal blocked. */
static const struct {
    int signal;
    void (*disposition)(int);
} for_c[] = {
    /* It has no handler for some milliseconds, and a SIGUSR1 would end it. */
    {SIGUSR1, SIG_IGN},
    {SIGTRAP, SIG_DFL},
    {SIGXFSZ, SIG_DFL},
    /* With a handler of ours, one that comes before exec would be lost. */
    {SIGTERM, SIG_DFL},
    {SIGINT, SIG_DFL},
    {SIGQUIT, SIG_DFL},
};
#define FOR_C (sizeof(for_c) / sizeof(for_c[0]))

/* A child takes microseconds, or its turns on a busy machine. While clients wait. */
#define SHARED_MS 2000

static int execute_c(char **path, char **arguments, char **environment) {
    struct sigaction before[FOR_C];
    for (size_t i = 0; i < FOR_C; i++) {
        struct sigaction action = {.sa_handler = for_c[i].disposition};
        sigaction(for_c[i].signal, &action, &before[i]);
    }
    set_mask(false);
    execve(path[0], arguments, environment);
    int error = errno;
    set_mask(are_blocked);
    for (size_t i = 0; i < FOR_C; i++) sigaction(for_c[i].signal, &before[i], NULL);
    return error;
}

static napi_value posix_execve(napi_env env, napi_callback_info info) {
    ARGS(4);
    char **path = string_vector(env, argv[0]);
    char **arguments = string_vector(env, argv[1]);
    char **environment = string_vector(env, argv[2]);
    bool is_c = false;
    napi_get_value_bool(env, argv[3], &is_c);
    int error = ENOMEM;

    if (path != NULL && arguments != NULL && environment != NULL) {
        if (is_end_pending()) {
            error = EINTR;
        } else if (!await_own_descriptors(SHARED_MS)) {
            error = EBUSY;
        } else if (is_c) {
            error = execute_c(path, arguments, environment);
        } else {
            execve(path[0], arguments, environment);
            error = errno;
        }
    }
    free_vector(path);
    free_vector(arguments);
    free_vector(environment);
    return number(env, -error);
}

void define_signals(napi_env env, napi_value exports) {
    const napi_property_descriptor functions[] = {
        FUNCTION("blockSignals", posix_block_signals),
        FUNCTION("releaseSignals", posix_release_signals),
        FUNCTION("isGuarded", posix_is_guarded),
        FUNCTION("ignoreStrays", posix_ignore_strays),
        FUNCTION("execve", posix_execve),
    };
    napi_define_properties(env, exports, sizeof(functions) / sizeof(functions[0]), functions);
}
