/* What both native modules need of N-API: arguments in, numbers out. */
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

#endif
