{
  'target_defaults': {
    'cflags': ['-std=c11', '-O2', '-Wall', '-Wextra', '-Wno-unused-parameter', '-Werror=implicit-function-declaration'],
  },
  'targets': [
    {'target_name': 'posix', 'sources': ['addon.c', 'scan.c', 'signals.c', 'store.c']},
    # launch starts the daemon's runtime, and preloads guard into it.
    {
      'target_name': 'launch',
      'type': 'executable',
      'product_extension': '',
      'sources': ['launch.c'],
      # Static where a static libc is installed: a start is half a millisecond shorter, and the program runs with any libc. Else stripped.
      'ldflags': ['<!(echo "int main(void) { return 0; }" | cc -static -x c -o /dev/null - 2>&- && echo -static || echo -s)'],
    },
    {'target_name': 'guard', 'cflags': ['-fvisibility=hidden'], 'sources': ['guard.c']},
  ],
}
