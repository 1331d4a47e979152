// Waits for a state of the world.

import { setTimeout as pause } from 'node:timers/promises';

// Calls `probe` until it returns something, and returns that. What it throws counts as nothing until the time is up.
export async function eventually(what, probe, seconds = 20) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    let failure;
    try {
      const found = await probe();
      if (found) return found;
    } catch (error) {
      failure = error;
    }
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`, { cause: failure });
    await pause(100);
  }
}
