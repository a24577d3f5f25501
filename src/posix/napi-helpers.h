/* N-API for the native modules: arguments in, numbers out. */
#ifndef NAPI_HELPERS_H
#define NAPI_HELPERS_H

#include <node_api.h>
#include <stddef.h>
#include <stdint.h>

#define ARGS(count)                                                                                                    \
    napi_value argv[count];                                                                                            \
    size_t argc = count;                                                                                               \
    napi_get_cb_info(env, info, &argc, argv, NULL, NULL)

#define FUNCTION(name, function) {name, NULL, function, NULL, NULL, NULL, napi_default, NULL}

static inline napi_value number(napi_env env, int64_t value) {
    napi_value result;
    napi_create_int64(env, value, &result);
    return result;
}

static inline int32_t arg_int(napi_env env, napi_value value) {
    int32_t result = -1;
    napi_get_value_int32(env, value, &result);
    return result;
}

static inline int64_t arg_long(napi_env env, napi_value value) {
    int64_t result = 0;
    napi_get_value_int64(env, value, &result);
    return result;
}

#define MAX_CALL 2

/* Calls back into JavaScript with numbers, and runs the microtasks and ticks that this has queued. */
static inline void call_back(napi_env env, napi_ref callback, size_t count, const int32_t *numbers) {
    napi_handle_scope scope;
    napi_value function, global, result, arguments[MAX_CALL];
    napi_open_handle_scope(env, &scope);
    napi_get_reference_value(env, callback, &function);
    napi_get_global(env, &global);
    for (size_t i = 0; i < count; i++) napi_create_int32(env, numbers[i], &arguments[i]);
    if (napi_make_callback(env, NULL, global, function, count, arguments, &result) == napi_pending_exception) {
        napi_value exception;
        napi_get_and_clear_last_exception(env, &exception);
        napi_fatal_exception(env, exception);
    }
    napi_close_handle_scope(env, scope);
}

#endif
