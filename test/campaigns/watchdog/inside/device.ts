/** The machine's watchdog, as the kernel shows it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const DIRECTORY = '/sys/class/watchdog/watchdog0';
export const DEVICE = '/dev/watchdog0';
/** Of `bootstatus`: WDIOF_CARDRESET, the device has reset the machine. */
const CARD_RESET = 0x20;

/** An attribute of the device: `identity`, `state`, `timeout` in seconds, `nowayout`. */
export function attribute(name: string): string {
  return readFileSync(join(DIRECTORY, name), 'latin1').trim();
}

export const isCounting = (): boolean => attribute('state') === 'active';

/** The device says that it has reset the machine before this boot. */
export const hasReset = (): boolean => (Number(attribute('bootstatus')) & CARD_RESET) !== 0;
