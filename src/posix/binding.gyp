{
  'target_defaults': {
    'cflags': ['-std=c11', '-O2', '-Wall', '-Wextra', '-Wno-unused-parameter'],
  },
  'targets': [
    {'target_name': 'posix', 'sources': ['addon.c', 'scan.c']},
    # Not the daemon's: the client's side, for the fuzzer and the tests.
    {'target_name': 'client', 'sources': ['../fuzz/client.c']},
    # The trace tool's.
    {'target_name': 'relay', 'sources': ['../trace/relay.c']},
  ],
}
