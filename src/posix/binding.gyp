{
  'targets': [
    {
      'target_name': 'posix',
      'sources': ['addon.c'],
      'cflags': ['-std=c11', '-O2', '-Wall', '-Wextra', '-Wno-unused-parameter'],
    },
  ],
}
