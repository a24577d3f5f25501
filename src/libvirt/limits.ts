/** libvirt reads no larger file, neither configuration nor state document: it reports EOVERFLOW. */
export const MAX_FILE = 10 * 1024 * 1024;
