/** libvirt reads no larger file, be it its configuration or a state document, and calls more an overflow. */
export const MAX_FILE = 10 * 1024 * 1024;
