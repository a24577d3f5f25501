/* Signals, and exec, which signals must not be lost around. guard.c holds them while the runtime starts. */
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

/* What ends the daemon in order. A program that is to be executed would not know of one that has come. */
static const int end_signals[] = {SIGTERM, SIGINT, SIGQUIT};
#define END_SIGNALS (sizeof(end_signals) / sizeof(end_signals[0]))

/* ---- the mask ------------------------------------------------------------------------------------------------- */

/* guard.c has it, if that is preloaded. */
extern void end_guard(void) __attribute__((weak));

static bool are_held;

/* Of this thread alone: of the others guard.c takes care. */
static void set_mask(bool full) { change_mask(SIG_SETMASK, full ? ALL_SIGNALS : NO_SIGNALS, NULL); }

/* blockSignals(): see posix.ts. */
static napi_value posix_block_signals(napi_env env, napi_callback_info info) {
    (void)env;
    (void)info;
    set_mask(are_held = true);
    return NULL;
}

/* isGuarded(): see posix.ts. */
static napi_value posix_is_guarded(napi_env env, napi_callback_info info) {
    (void)info;
    napi_value result;
    napi_get_boolean(env, end_guard != NULL, &result);
    return result;
}

/* releaseSignals(): see posix.ts. */
static napi_value posix_release_signals(napi_env env, napi_callback_info info) {
    (void)env;
    (void)info;
    if (end_guard != NULL) end_guard();
    set_mask(are_held = false);
    return NULL;
}

/* ---- strays --------------------------------------------------------------------------------------------------- */

/*
 * Signals that mean nothing here, and whose default action is to end the process; the real-time ones are others. Handlers, not
 * SIG_IGN: a program that is executed has the default action again.
 */
static const int strays[] = {SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGSTKFLT, SIGPWR, SIGXCPU};
#define KERNEL_SIGNALS 64

static struct {
    napi_env env;
    napi_ref callback;
    uv_async_t news;
    /* By signal, who sent it first, plus one; 0 for none. Of a handler's, so it may be read and written in one go only. */
    volatile sig_atomic_t sender[KERNEL_SIGNALS + 1];
    bool told[KERNEL_SIGNALS + 1];
} stray;

static void note_stray(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (stray.sender[signal] != 0) return;
    int error = errno;
    /* A positive code is the kernel's: a timer, a limit. */
    stray.sender[signal] = (info->si_code > 0 ? 0 : info->si_pid) + 1;
    uv_async_send(&stray.news);
    errno = error;
}

static void tell_strays(uv_async_t *news) {
    (void)news;
    for (int signal = 1; signal <= KERNEL_SIGNALS; signal++) {
        if (stray.sender[signal] == 0 || stray.told[signal]) continue;
        stray.told[signal] = true;
        const int32_t news[] = {signal, stray.sender[signal] - 1};
        call_back(stray.env, stray.callback, 2, news);
    }
}

/* ignoreStrays(onStray): see posix.ts. */
static napi_value posix_ignore_strays(napi_env env, napi_callback_info info) {
    ARGS(1);
    uv_loop_t *loop;
    struct sigaction action = {.sa_sigaction = note_stray, .sa_flags = SA_SIGINFO | SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    stray.env = env;
    napi_create_reference(env, argv[0], 1, &stray.callback);
    napi_get_uv_event_loop(env, &loop);
    int status = uv_async_init(loop, &stray.news, tell_strays);
    if (status < 0) return number(env, status);
    uv_unref((uv_handle_t *)&stray.news);

    for (size_t i = 0; i < sizeof(strays) / sizeof(strays[0]); i++) sigaction(strays[i], &action, NULL);
    for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++) sigaction(signal, &action, NULL);
    /* A breakpoint in compiled code must end the process all the same, and does when the signal is ignored, not when handled. */
    sigaction(SIGTRAP, &ignore, NULL);
    return number(env, 0);
}

/* ---- exec ----------------------------------------------------------------------------------------------------- */

static char **string_vector(napi_env env, napi_value array) {
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

static void free_vector(char **vector) {
    for (char **item = vector; item != NULL && *item != NULL; item++) free(*item);
    free(vector);
}

/* Whether one waits that ends the daemon. It is heard by this program then. */
static bool told_to_end(void) {
    sigset_t waiting;
    sigpending(&waiting);
    for (size_t i = 0; i < END_SIGNALS; i++) {
        if (sigismember(&waiting, end_signals[i])) return true;
    }
    return false;
}

/* What a C daemon finds when it has executed itself: no more than this is ignored, and nothing is blocked. */
static const struct {
    int signal;
    void (*disposition)(int);
} for_c[] = {
    /* It has no handler for some milliseconds, in which a SIGUSR1 would end it. */
    {SIGUSR1, SIG_IGN},
    {SIGTRAP, SIG_DFL},
    {SIGXFSZ, SIG_DFL},
    /* A handler of ours would hear of these, and be forgotten. */
    {SIGTERM, SIG_DFL},
    {SIGINT, SIG_DFL},
    {SIGQUIT, SIG_DFL},
};
#define FOR_C (sizeof(for_c) / sizeof(for_c[0]))

static int execute_c(char **path, char **arguments, char **environment) {
    struct sigaction before[FOR_C];
    for (size_t i = 0; i < FOR_C; i++) {
        struct sigaction action = {.sa_handler = for_c[i].disposition};
        sigaction(for_c[i].signal, &action, &before[i]);
    }
    set_mask(false);
    execve(path[0], arguments, environment);
    int error = errno;
    set_mask(are_held);
    for (size_t i = 0; i < FOR_C; i++) sigaction(for_c[i].signal, &before[i], NULL);
    return error;
}

/* execve(path, arguments, environment, isC): see posix.ts. */
static napi_value posix_execve(napi_env env, napi_callback_info info) {
    ARGS(4);
    char **path = string_vector(env, argv[0]);
    char **arguments = string_vector(env, argv[1]);
    char **environment = string_vector(env, argv[2]);
    bool is_c = false;
    napi_get_value_bool(env, argv[3], &is_c);
    int error = ENOMEM;

    if (path != NULL && arguments != NULL && environment != NULL) {
        if (told_to_end()) {
            error = EINTR;
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
