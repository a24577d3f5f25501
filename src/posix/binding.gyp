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
      # Static where there is a libc for that: half a millisecond less at every start, and no newer libc is needed than here.
      'ldflags': ['<!(echo "int main(void) { return 0; }" | cc -static -x c -o /dev/null - 2>&- && echo -static || echo -s)'],
    },
    {'target_name': 'guard', 'cflags': ['-fvisibility=hidden'], 'sources': ['guard.c']},
  ],
}
