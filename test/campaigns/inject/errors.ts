/**
 * The errors that a system call can have, by what it does and to what: those that its manual page lists, as far as they can
 * happen to a sound program while a machine or a file server is in trouble. Errors that tell a fact (the peer has reset the
 * connection, the process is gone) are left out: what follows from a fact is no fault.
 */
import type { ErrorName, Injection } from './tracer.ts';

type Failure = Pick<Injection, 'error' | 'after'>;

const before = (...errors: readonly ErrorName[]): Failure[] => errors.map((error) => ({ error, after: false }));
/** The call is carried out, and only its result is lost: close always is, others may be on a file server. */
const after = (...errors: readonly ErrorName[]): Failure[] => errors.map((error) => ({ error, after: true }));

/** The kind of a call's target, on which its errors depend. */
function kindOf(target: string): 'file' | 'kernel' | 'stream' {
  if (/^(socket|pipe|anon_inode)/.test(target)) return 'stream';
  return /^\/(proc|sys|dev)(\/|$)/.test(target) ? 'kernel' : 'file';
}

const DESCRIPTORS = before('EMFILE', 'ENFILE', 'ENOMEM');
/** A file server, or a disk, that is in trouble. */
const STORAGE = before('EIO', 'ESTALE', 'ETIMEDOUT');
const FULL = before('ENOSPC', 'EDQUOT', 'EROFS');

/** Errors during an upgrade. ENOENT for the state file of this restart would be false. */
function nameless(target: string): Failure[] {
  return target.startsWith('/run/virtlockd-restart-exec') ? [] : before('ENOENT', 'ELOOP');
}

function open(target: string, creates: boolean): Failure[] {
  const any = [...DESCRIPTORS, ...before('EACCES', 'EINTR')];
  if (kindOf(target) !== 'file') return any;
  return [...any, ...STORAGE, ...nameless(target), ...(creates ? FULL : [])];
}

function look(target: string): Failure[] {
  const any = before('EACCES', 'ENOMEM');
  return kindOf(target) === 'file' ? [...any, ...STORAGE, ...nameless(target)] : any;
}

/** For calls on an open descriptor. */
function lookAtOpen(target: string): Failure[] {
  return kindOf(target) === 'file' ? [...STORAGE, ...before('ENOMEM', 'EACCES')] : before('ENOMEM', 'EACCES');
}

/** A pipe that makes its reader wait has nothing to try again. */
function mayWait(target: string): Failure[] {
  return target === 'pipe:[#]' ? before('EINTR') : before('EINTR', 'EAGAIN');
}

function read(target: string): Failure[] {
  if (kindOf(target) === 'stream') return mayWait(target);
  return kindOf(target) === 'file' ? before('EIO', 'ESTALE', 'EINTR', 'ENOMEM') : before('EINTR', 'ENOMEM');
}

function write(target: string): Failure[] {
  // A full pipe of the runtime already has the byte that wakes it.
  if (target.startsWith('pipe:')) return before('EINTR');
  if (kindOf(target) === 'stream') return mayWait(target);
  return kindOf(target) === 'file' ? [...before('EIO', 'ENOSPC', 'EDQUOT', 'EINTR'), ...after('EIO')] : before('EIO');
}

const LOCK = [
  ...before('ENOLCK', 'EIO', 'ESTALE', 'ETIMEDOUT', 'EINTR', 'EAGAIN', 'EACCES'),
  ...after('EIO', 'ETIMEDOUT'),
];
const NAMES = [...before('EACCES', 'EPERM', 'EIO', 'EROFS', 'ESTALE', 'ENOMEM'), ...after('EIO', 'ETIMEDOUT')];
const SEND = before('EAGAIN', 'EINTR', 'ENOBUFS', 'ENOMEM');
const SOCKET_OPTION = before('ENOBUFS', 'ENOMEM', 'EACCES');
const FORK = before('EAGAIN', 'ENOMEM', 'EPERM');
/** Errors of a security module where the manual page lists none. */
const DENIED = before('EACCES');

const TABLE: Readonly<Record<string, readonly Failure[] | ((target: string) => Failure[])>> = {
  open: (target) => open(target, false),
  'open:O_CREAT': (target) => open(target, true),
  openat: (target) => open(target, false),
  'openat:O_CREAT': (target) => open(target, true),
  read,
  pread64: read,
  readv: read,
  preadv: read,
  getdents64: read,
  write,
  pwrite64: write,
  writev: write,
  pwritev: write,
  close: after('EINTR'),
  // At the latest here, written data reaches a file server.
  'close:written': (target) => (kindOf(target) === 'file' ? after('EIO', 'ENOSPC', 'EINTR') : after('EINTR')),
  stat: look,
  lstat: look,
  newfstatat: look,
  statx: look,
  access: look,
  faccessat: look,
  faccessat2: look,
  readlink: look,
  readlinkat: look,
  statfs: look,
  getcwd: before('ENOENT', 'ENOMEM', 'EACCES'),
  fstat: lookAtOpen,
  fstatfs: lookAtOpen,
  lseek: DENIED,
  ioctl: before('EIO', 'EACCES'),
  flock: before('ENOLCK', 'EINTR'),
  'fcntl:F_SETLK': LOCK,
  'fcntl:F_OFD_SETLK': LOCK,
  'fcntl:F_GETLK': before('ENOLCK', 'EIO', 'ESTALE', 'ETIMEDOUT', 'EACCES'),
  'fcntl:F_OFD_GETLK': before('ENOLCK', 'EIO', 'ESTALE', 'ETIMEDOUT', 'EACCES'),
  'fcntl:F_DUPFD': [...before('EMFILE'), ...DENIED],
  'fcntl:F_DUPFD_CLOEXEC': [...before('EMFILE'), ...DENIED],
  'fcntl:F_GETFD': DENIED,
  'fcntl:F_SETFD': DENIED,
  'fcntl:F_GETFL': DENIED,
  'fcntl:F_SETFL': DENIED,
  unlink: NAMES,
  unlinkat: NAMES,
  rename: [...NAMES, ...before('ENOSPC', 'EDQUOT')],
  renameat: [...NAMES, ...before('ENOSPC', 'EDQUOT')],
  renameat2: [...NAMES, ...before('ENOSPC', 'EDQUOT')],
  mkdir: [...NAMES, ...before('ENOSPC', 'EDQUOT')],
  mkdirat: [...NAMES, ...before('ENOSPC', 'EDQUOT')],
  chmod: NAMES,
  fchmod: NAMES,
  chdir: look,
  ftruncate: [...before('EINTR'), ...write('/file')],
  fsync: write('/file'),
  fdatasync: write('/file'),
  socket: [...DESCRIPTORS, ...before('ENOBUFS', 'EACCES')],
  socketpair: [...DESCRIPTORS, ...before('ENOBUFS', 'EACCES')],
  bind: before('EACCES', 'EADDRINUSE', 'ENOMEM', 'EROFS', 'ENOSPC'),
  listen: before('EACCES', 'EADDRINUSE', 'ENOBUFS'),
  accept4: [...DESCRIPTORS, ...before('ENOBUFS', 'EINTR', 'EAGAIN', 'EPERM', 'ECONNABORTED')],
  connect: before('EAGAIN', 'EACCES', 'EINTR', 'ECONNREFUSED', 'ENOENT'),
  'getsockopt:*': SOCKET_OPTION,
  'setsockopt:*': SOCKET_OPTION,
  // SO_PEERPIDFD makes a descriptor.
  'getsockopt:77': [...SOCKET_OPTION, ...DESCRIPTORS],
  getsockname: SOCKET_OPTION,
  getpeername: SOCKET_OPTION,
  shutdown: DENIED,
  recvfrom: before('EAGAIN', 'EINTR', 'ENOMEM', 'ENOBUFS'),
  recvmsg: before('EAGAIN', 'EINTR', 'ENOMEM', 'ENOBUFS'),
  sendto: SEND,
  sendmsg: SEND,
  epoll_create1: DESCRIPTORS,
  'epoll_ctl:ADD': before('ENOMEM', 'ENOSPC'),
  // The kernel allocates nothing for these.
  'epoll_ctl:MOD': [],
  'epoll_ctl:DEL': [],
  epoll_wait: before('EINTR'),
  epoll_pwait: before('EINTR'),
  eventfd2: DESCRIPTORS,
  pipe: DESCRIPTORS,
  pipe2: DESCRIPTORS,
  timerfd_create: DESCRIPTORS,
  timerfd_settime: before('ENOMEM'),
  signalfd4: DESCRIPTORS,
  memfd_create: DESCRIPTORS,
  inotify_init1: DESCRIPTORS,
  dup: [...before('EMFILE'), ...DENIED],
  dup2: [...before('EMFILE', 'EINTR'), ...before('EBUSY')],
  dup3: [...before('EMFILE', 'EINTR'), ...before('EBUSY')],
  clone: FORK,
  clone3: FORK,
  fork: FORK,
  vfork: FORK,
  execve: before(
    'EACCES',
    'EIO',
    'ENOENT',
    'ENOMEM',
    'EMFILE',
    'ENFILE',
    'ETXTBSY',
    'EAGAIN',
    'EPERM',
    'E2BIG',
    'ESTALE',
  ),
  wait4: before('EINTR'),
  waitid: before('EINTR'),
  'kill:*': before('EPERM'),
  'tgkill:*': before('EPERM', 'EAGAIN'),
  'tkill:*': before('EPERM', 'EAGAIN'),
  'pidfd_send_signal:*': before('EPERM', 'ENOMEM'),
  pidfd_open: [...DESCRIPTORS, ...before('ENODEV', 'EPERM', 'ENOSYS')],
  pidfd_getfd: [...DESCRIPTORS, ...before('EPERM')],
  'prctl:*': before('EACCES', 'EPERM'),
  'prlimit64:*': before('EPERM'),
  getrandom: before('EINTR', 'EAGAIN'),
  mmap: before('ENOMEM', 'EACCES', 'EAGAIN', 'ENODEV'),
  io_uring_setup: [...DESCRIPTORS, ...before('EPERM', 'ENOSYS')],
  io_uring_enter: before('EAGAIN', 'EBUSY', 'EINTR', 'ENOMEM'),
  'flock:*': before('ENOLCK'),
};

/** How a call with that key (see tracer.c) can fail; none for one that cannot. */
export function failuresOf(key: string): readonly Failure[] {
  const [, name = '', target = ''] = key.split(' ');
  const entry = TABLE[name] ?? TABLE[`${name.split(':')[0] ?? ''}:*`] ?? TABLE[name.split(':')[0] ?? ''] ?? [];
  return typeof entry === 'function' ? entry(target) : entry;
}
