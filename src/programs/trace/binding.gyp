{
  'targets': [
    {
      'target_name': 'relay',
      'cflags': ['-std=c11', '-O2', '-Wall', '-Wextra', '-Wno-unused-parameter', '-Werror=implicit-function-declaration'],
      'sources': ['relay.c'],
    },
  ],
}
