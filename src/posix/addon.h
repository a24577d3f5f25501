/* The other files of the addon. Each adds its functions to the exports. */
#ifndef ADDON_H
#define ADDON_H

#include <node_api.h>
#include <stdbool.h>

void define_packet(napi_env env, napi_value exports);
void define_scan(napi_env env, napi_value exports);
void define_signals(napi_env env, napi_value exports);
void define_spawn(napi_env env, napi_value exports);
void define_store(napi_env env, napi_value exports);

/*
 * Waits until no child shares the daemon's descriptors any more: one does from its start to its first system calls. False when that
 * takes longer.
 */
bool await_own_descriptors(int milliseconds);

/* The strings of an array, and a NULL; NULL without memory. */
char **string_vector(napi_env env, napi_value array);
void free_vector(char **vector);

#endif
