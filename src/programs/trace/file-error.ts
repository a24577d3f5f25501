/** A file has the wrong format, or is cut off. */
export class FileError extends Error {
  override name = 'FileError';
}
