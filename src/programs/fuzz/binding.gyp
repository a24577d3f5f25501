{
  'targets': [
    {
      'target_name': 'client',
      'cflags': ['-std=c11', '-O2', '-Wall', '-Wextra', '-Wno-unused-parameter', '-Werror=implicit-function-declaration'],
      'sources': ['client.c'],
    },
  ],
}
