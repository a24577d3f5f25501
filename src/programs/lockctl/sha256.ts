import type { ByteString } from '../../../xdr/codec.ts';

/** In hexadecimal: libvirt's name for a disk with this path in an indirect lockspace (`file_lockspace_dir`). */
export function sha256(path: ByteString): string {
  // Loaded when first needed, for it takes 7 ms.
  const { createHash } = process.getBuiltinModule('node:crypto');
  return createHash('sha256').update(Buffer.from(path, 'latin1')).digest('hex');
}
