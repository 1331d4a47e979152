// The page while a client writes statuses of the largest objects: how soon one sees a write, whether the page stays quick,
// and what browser and command hold in memory. Prints a table.
//
// Counts and memory fail the test. Times are printed with their goals; they fail it only if they exceed them by far, because
// browser, command, API server and etcd share the processors of the machine.

import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';

import { enter, launch } from '../lib/browser.js';
import { Cluster } from '../lib/cluster.js';
import { Dashboard } from '../lib/dashboard.js';
import { artifacts, isQuick } from '../lib/environment.js';
import { eventually } from '../lib/eventually.js';
import * as load from '../lib/load.js';
import { delays, figures, firstView, observe, quantile, Table } from '../lib/measure.js';

const NAMESPACE = 'load';
const SECONDS = isQuick() ? 10 : 60;

// So many times its goal may a time be before a test fails.
const SLACK = 10;

// How often a key is pressed, and how often memory is looked at, in milliseconds.
const PRESS = 250;
const LOOK = 2000;

describe('under load', () => {
  let cluster, dashboard, browser, page, troubles;

  before(async () => {
    cluster = Cluster.connect();
    await cluster.create({ kind: 'Namespace', metadata: { name: NAMESPACE } });
    mkdirSync(artifacts(), { recursive: true });
    writeFileSync(join(artifacts(), 'figures.md'), '');
  });

  // Each load has a command and a browser of its own, so that the memory is that of this load.
  const begin = async () => {
    dashboard = await Dashboard.start();
    browser = await launch();
    ({ page, troubles } = await enter(browser, dashboard));
  };

  const end = async () => {
    await browser?.close();
    await dashboard?.stop();
  };

  after(async () => {
    await end();
    cluster?.close();
  });

  test('of a job with 10,000 targets, of which 500 change each second', async () => {
    await begin();
    const job = load.job('large', NAMESPACE, 10_000);
    const path = `/operationjobs/${NAMESPACE}/large`;
    await measure('OperationJob, 10,000 targets, 500 changes a second', job, path, { rate: 500, every: 1000 });
    await end();
  });

  test('of a flow with 1,000 steps, of which 20 change each second', async () => {
    await begin();
    const flow = load.flow('large', NAMESPACE, 1000);
    const path = `/jobflows/${NAMESPACE}/large`;
    await measure('JobFlow, 1,000 steps, 20 changes a second', flow, path, { rate: 20, every: 500 });
    await end();
  });

  async function measure(title, written, path, pace) {
    const table = new Table();
    const created = await cluster.create({ ...written.object, status: written.status(0) });
    await eventually('the command has listed it', async () => (await page.request.get(dashboard.at(path))).ok());
    await page.goto(dashboard.at(path));
    table.below('first complete view', await firstView(page), 2000, 'ms', SLACK);

    const session = await page.context().newCDPSession(page);
    await observe(page);
    const work = { isOver: false };
    const heap = [];
    const rss = [];
    const [writes, presses] = await Promise.all([
      load.write(cluster, created, written, { ...pace, seconds: SECONDS }).finally(() => (work.isOver = true)),
      press(page, work),
      look(session, work, heap, rss),
    ]);
    const last = writes.at(-1);
    await eventually('the last write is painted', async () => {
      const { painted } = await figures(page);
      return painted.at(-1)?.done === last.done;
    });
    const { painted, tasks, keys } = await figures(page);

    table.add('writes, changes', `${writes.length}, ${last.changes}`);
    table.add('changes of the page', String(painted.length));
    const late = delays(writes, painted);
    table.below('write to visible, median', quantile(late, 0.5), 1500, 'ms', SLACK);
    table.below('write to visible, p95', quantile(late, 0.95), 1500, 'ms', SLACK);
    table.below('longest task of the page', Math.max(0, ...tasks), 200, 'ms', SLACK);
    // Quicker ones are not reported.
    const unreported = Array(Math.max(0, presses - keys.length)).fill(16);
    table.below('key to result, p95', quantile([...keys, ...unreported], 0.95), 100, 'ms', SLACK);
    table.below('Enter on a link to its view', await follow(page), 100, 'ms', SLACK);
    table.below('heap of the page, with its elements, most', Math.max(...heap), 100, 'MiB');
    table.below('memory of the command, peak', dashboard.memory().peak, 150, 'MiB');
    if (!isQuick()) {
      table.flat('heap of the page', heap);
      table.flat('memory of the command', rss);
    }
    const machine = `${cpus().length} × ${cpus()[0].model.trim()}, load ${loadavg()[0].toFixed(1)} after it`;
    const text = `\n### ${title}, ${SECONDS} s\n\n${machine}\n\n${table.markdown}`;
    appendFileSync(join(artifacts(), 'figures.md'), text);
    console.log(text);
    assert.deepEqual(table.failures, []);
    assert.deepEqual(troubles, []);
  }

  // Presses Tab again and again; returns how often.
  async function press(page, work) {
    let presses = 0;
    for (; !work.isOver; presses += 1) {
      await page.keyboard.press('Tab');
      await pause(PRESS);
    }
    return presses;
  }

  // Samples memory, in MiB.
  async function look(session, work, heap, rss) {
    while (!work.isOver) {
      await session.send('HeapProfiler.collectGarbage');
      const { usedSize, embedderHeapUsedSize } = await session.send('Runtime.getHeapUsage');
      heap.push((usedSize + embedderHeapUsedSize) / 2 ** 20);
      rss.push(dashboard.memory().now);
      await pause(LOOK);
    }
  }

  // Milliseconds from Enter on the first link of the header until its view is painted.
  async function follow(page) {
    await page.getByRole('link', { name: 'Overview' }).focus();
    const pressed = Date.now();
    await page.keyboard.press('Enter');
    await page.waitForURL(dashboard.at('/'));
    const took = await firstView(page);
    return (await page.evaluate(() => performance.timeOrigin)) + took - pressed;
  }
});
