// What the page does when its connection breaks, and when many tabs share the six connections that a browser has.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { enter, launch } from '../lib/browser.js';
import { Cluster } from '../lib/cluster.js';
import { Dashboard } from '../lib/dashboard.js';
import { eventually } from '../lib/eventually.js';
import { Link } from '../lib/link.js';
import { Tabs } from '../lib/tabs.js';

const NAMESPACE = 'link';
const PATH = `/operationjobs/${NAMESPACE}/web`;

const LOST = 'The connection to "kubectl operon dashboard" is lost and is tried again.';
const ENDED = 'This page does not change any more. Reload it, or run "kubectl operon dashboard" again';

describe('the connection', () => {
  let cluster, job;
  const ends = [];

  // What has to end with the test, the last first.
  const own = (part, end) => {
    ends.push(() => end(part));
    return part;
  };

  before(async () => {
    cluster = own(Cluster.connect(), (one) => one.close());
    await cluster.create({ kind: 'Namespace', metadata: { name: NAMESPACE } });
    job = await cluster.create({
      kind: 'OperationJob',
      metadata: { name: 'web', namespace: NAMESPACE },
      spec: { action: 'Restart', targets: [{ name: 'web-0' }] },
      status: at('begins'),
    });
  });

  after(async () => {
    for (const end of ends.reverse()) await end();
  });

  const start = async (port) => own(await Dashboard.start(port), (one) => one.stop());

  // Changes the object, and waits until the page shows it.
  const follows = async (page) => {
    const message = `look ${Date.now()}`;
    await cluster.status(job, at(message));
    await page.locator('#targets').getByText(message).waitFor({ timeout: 20_000 });
  };

  test('that breaks is reported, and recovers by itself', async () => {
    const dashboard = await start();
    const link = own(await Link.to(dashboard.port), (one) => one.close());
    const browser = own(await launch(link.argument(dashboard.port)), (one) => one.close());
    const { page } = await enter(browser, dashboard);
    await page.goto(dashboard.at(PATH));
    const status = page.locator('#connection');
    await follows(page);
    assert.equal(await status.innerText(), '');

    link.cut();
    await status.getByText(LOST).waitFor();
    const missed = `missed ${Date.now()}`;
    await cluster.status(job, at(missed));
    link.mend();
    await page.locator('#targets').getByText(missed).waitFor({ timeout: 20_000 });
    assert.equal(await status.innerText(), '');
    await follows(page);
  });

  test('to a command that was started again is refused, and the page says what to do', async () => {
    const dashboard = await start();
    const browser = own(await launch(), (one) => one.close());
    const { page } = await enter(browser, dashboard);
    await page.goto(dashboard.at(PATH));
    await follows(page);
    await dashboard.stop();
    const status = page.locator('#connection');
    await status.getByText(LOST).waitFor();

    const next = await start(dashboard.port);
    await status.getByText(ENDED).waitFor({ timeout: 20_000 });
    await page.reload();
    await page.getByText('This browser has not opened the address').waitFor();
    await page.goto(next.address.href);
    await page.goto(next.at(PATH));
    await follows(page);
  });

  test('is closed by a tab that is hidden, so that ten tabs work', async () => {
    const dashboard = await start();
    const link = own(await Link.to(dashboard.port), (one) => one.close());
    const tabs = own(await Tabs.launch(link.argument(dashboard.port)), (one) => one.close());
    const pages = [await tabs.open(dashboard.address.href)];
    while (pages.length < 10) pages.push(await tabs.open(dashboard.at(PATH)));
    const hidden = () => Promise.all(pages.map((page) => page.evaluate(() => document.hidden)));
    await eventually('only the last tab is in front', async () => {
      const [last, ...others] = (await hidden()).reverse();
      return !last && others.every((isHidden) => isHidden);
    });
    await follows(pages[9]);

    const before = await pages[4].locator('#targets').innerText();
    await follows(pages[9]);
    assert.equal(await pages[4].locator('#targets').innerText(), before, 'a hidden tab does not change');
    await pages[4].bringToFront();
    await follows(pages[4]);
    assert.deepEqual((await hidden()).filter((isHidden) => !isHidden).length, 1);
  });
});

function at(message) {
  return {
    observedGeneration: 1,
    progress: 'Processing',
    totalPodCount: 1,
    targetDetails: [
      { name: 'web-0', progress: 'Processing', error: { reason: 'ContainerNotReady', message } },
    ],
  };
}
