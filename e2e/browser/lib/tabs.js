// A browser with tabs as a user has them: one is in front, and the others are hidden. Playwright by itself makes every page
// believe that it is in front.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

import { chromium as program } from './environment.js';

export class Tabs {
  static async launch(...args) {
    const folder = mkdtempSync(join(tmpdir(), 'operon-browser-'));
    const basic = ['--headless=new', '--no-sandbox', '--no-first-run', '--disable-background-networking'];
    const debugged = ['--remote-debugging-port=0', `--user-data-dir=${folder}`];
    const child = spawn(program(), [...basic, ...debugged, ...args, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const lines = createInterface({ input: child.stderr });
    const address = await new Promise((resolve, reject) => {
      lines.on('line', (line) => {
        const [, found] = line.match(/^DevTools listening on (ws:\S+)/) ?? [];
        if (found !== undefined) resolve(found);
      });
      child.once('exit', (code) => reject(new Error(`the browser ended with ${code}`)));
    });
    const browser = await chromium.connectOverCDP(address, { noDefaults: true });
    return new Tabs(child, folder, browser);
  }

  constructor(child, folder, browser) {
    this.child = child;
    this.folder = folder;
    this.browser = browser;
    [this.context] = browser.contexts();
  }

  // Opens an address in a new tab, which is in front.
  async open(address) {
    const page = await this.context.newPage();
    await page.bringToFront();
    await page.goto(address);
    return page;
  }

  async close() {
    await this.browser.close();
    const exit = once(this.child, 'exit');
    if (this.child.exitCode === null && this.child.kill('SIGKILL')) await exit;
    rmSync(this.folder, { recursive: true, force: true });
  }
}
