/** A file is not what it should be. The message says where. */
export class FileError extends Error {
  override name = 'FileError';
}
