// `kubectl operon dashboard` as a process.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { plugin } from './environment.js';

export class Dashboard {
  // Starts the command, at this port or at any that is free, and waits for the address that it prints.
  static async start(port) {
    const choice = port === undefined ? [] : ['--port', String(port)];
    const child = spawn(plugin(), ['dashboard', '--no-open', ...choice], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: child.stdout });
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`kubectl operon dashboard ended with ${code}`);
    });
    const [address] = await Promise.race([once(lines, 'line'), ended]);
    ended.catch(() => {});
    return new Dashboard(child, new URL(address));
  }

  constructor(child, address) {
    this.child = child;
    // It can be used once.
    this.address = address;
  }

  get port() {
    return Number(this.address.port);
  }

  // The address of a path, without the token.
  at(path) {
    return new URL(path, this.address.origin).href;
  }

  // Its resident memory now, and the most that it had, in MiB.
  memory() {
    const status = readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    const mib = (name) => Number(status.match(`${name}:\\s+(\\d+) kB`)[1]) / 1024;
    return { now: mib('VmRSS'), peak: mib('VmHWM') };
  }

  async stop() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exit = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exit;
  }
}
