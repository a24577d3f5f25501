/* The other files of the addon. Each adds its functions to the exports. */
#ifndef ADDON_H
#define ADDON_H

#include <node_api.h>

void define_scan(napi_env env, napi_value exports);
void define_signals(napi_env env, napi_value exports);
void define_store(napi_env env, napi_value exports);

#endif
