// The page without a pointer: from the overview to the reason of a target that failed; and the focus stays where it is
// when the page changes.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { enter, launch } from '../lib/browser.js';
import { Cluster } from '../lib/cluster.js';
import { Dashboard } from '../lib/dashboard.js';

const NAMESPACE = 'keys';

// How many presses of Tab are more than any view needs.
const MOST = 60;

describe('by keyboard only', () => {
  let cluster, dashboard, browser, job, page;

  before(async () => {
    cluster = Cluster.connect();
    await cluster.create({ kind: 'Namespace', metadata: { name: NAMESPACE } });
    job = await cluster.create(failing());
    await cluster.create({ ...failing(), metadata: { name: 'other', namespace: NAMESPACE } });
    dashboard = await Dashboard.start();
    // A key has scrolled before the next line looks.
    browser = await launch('--disable-smooth-scrolling');
    ({ page } = await enter(browser, dashboard));
  });

  after(async () => {
    await browser?.close();
    await dashboard?.stop();
    cluster?.close();
  });

  test('a user finds why a target failed', async () => {
    const [first] = await tabTo(page, (focus) => focus.text === 'Skip to content');
    assert.equal(first.text, 'Skip to content');
    await tabTo(page, (focus) => focus.label === 'Namespace');
    await page.keyboard.type(NAMESPACE);
    await tabTo(page, (focus) => focus.label === 'State');
    await page.keyboard.type('unf');
    await tabTo(page, (focus) => focus.label === 'Text');
    await page.keyboard.type('web');
    await page.keyboard.press('Enter');
    await page.waitForURL(/namespace=keys&state=unfinished&text=web/);
    assert.equal(await page.locator('#objects tbody tr').count(), 1);

    await tabTo(page, (focus) => focus.text === 'OperationJob web');
    await page.keyboard.press('Enter');
    await page.waitForURL(/operationjobs\/keys\/web$/);
    await tabTo(page, (focus) => focus.text.endsWith('1 Failed'));
    await page.keyboard.press('Enter');
    await page.waitForURL(/state=Failed/);
    const rows = page.locator('#targets tbody tr');
    assert.equal(await rows.count(), 1);
    assert.match(await rows.first().innerText(), /web-0.*Failed.*DeadlineExceeded: it waited for main/s);
  });

  test('the focus and the place in an image stay when the page changes', async () => {
    await page.setViewportSize({ width: 360, height: 640 });
    const flow = await cluster.create(chain());
    const cases = [
      [job, '/operationjobs/keys/web', changed, (focus) => focus.text.endsWith('1 Failed')],
      [job, '/operationjobs/keys/web', changed, (focus) => focus.label === 'Table of targets'],
      [flow, '/jobflows/keys/chain', running, (focus) => focus.label === 'Graph'],
    ];
    for (const [object, path, status, wanted] of cases) {
      await page.goto(dashboard.at(path));
      await tabTo(page, wanted);
      for (let press = 0; press < 3; press += 1) await page.keyboard.press('ArrowRight');
      const before = await focused(page);
      const message = `look ${Date.now()}`;
      await cluster.status(object, status(message));
      await page.locator('#parts').getByText(message).waitFor();
      const { text, ...now } = await focused(page);
      const { text: _, ...then } = before;
      assert.deepEqual(now, then, text);
      assert.equal(now.scrolled > 0, object === flow, JSON.stringify(now));
    }
  });

  test('a user pauses a job after a question', async () => {
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.goto(dashboard.at('/operationjobs/keys/other'));
    await tabTo(page, (focus) => focus.text === 'Pause…');
    await page.keyboard.press('Enter');
    await page.waitForURL(/\/pause$/);
    await tabTo(page, (focus) => focus.text === 'Pause opj/other');
    await page.keyboard.press('Enter');
    await page.waitForURL(/keys\/other\?done=/);
    await page.locator('#done').getByText('no further target starts').waitFor();
    await page.locator('#verbs').getByText('Resume…').waitFor();
  });

  test('a question begins with the first line of what is written', async () => {
    const targets = Array.from({ length: 200 }, (_, number) => ({ name: `web-${number}` }));
    const targetDetails = targets.map(({ name }) => ({ name, progress: 'Failed', error: { reason: 'DeadlineExceeded', message: 'it waited' } }));
    const status = { observedGeneration: 1, progress: 'Failed', totalPodCount: 200, failedPodCount: 200, targetDetails };
    await cluster.create({ kind: 'OperationJob', metadata: { name: 'failed', namespace: NAMESPACE }, spec: { action: 'Restart', targets }, status });
    await page.goto(dashboard.at('/operationjobs/keys/failed/retry'));
    const written = page.locator('#effect pre');
    const [isLonger, isInSight] = await written.evaluate((pre) => {
      const first = document.createRange();
      first.setStart(pre.firstChild, 0);
      first.setEnd(pre.firstChild, 2);
      return [pre.scrollHeight > pre.clientHeight, first.getBoundingClientRect().top >= pre.getBoundingClientRect().top];
    });
    assert.deepEqual([isLonger, isInSight], [true, true]);
  });
});

// A flow whose image is wider than a narrow window.
function chain() {
  const jobTemplate = { template: { spec: { restartPolicy: 'Never', containers: [{ name: 'main', image: 'shop' }] } } };
  const names = ['build', 'test', 'scan', 'roll-out'];
  const flows = names.map((name, place) => ({ name, jobTemplate, dependencies: names.slice(0, place).slice(-1) }));
  return { kind: 'JobFlow', metadata: { name: 'chain', namespace: NAMESPACE }, spec: { flows }, status: running('begins') };
}

function running(message) {
  return {
    observedGeneration: 1,
    state: 'Running',
    progress: '0/4',
    steps: [{ name: 'build', phase: 'Running', reason: 'PodUnschedulable', message }],
  };
}

function failing() {
  return {
    kind: 'OperationJob',
    metadata: { name: 'web', namespace: NAMESPACE },
    spec: { action: 'Restart', targets: [{ name: 'web-0' }, { name: 'web-1' }] },
    status: changed('container main is starting'),
  };
}

function changed(message) {
  return {
    observedGeneration: 1,
    progress: 'Processing',
    totalPodCount: 2,
    failedPodCount: 1,
    targetDetails: [
      { name: 'web-0', progress: 'Failed', error: { reason: 'DeadlineExceeded', message: 'it waited for main' } },
      { name: 'web-1', progress: 'Processing', error: { reason: 'ContainerNotReady', message } },
    ],
  };
}

// Presses Tab until the focus is where it should be. Wherever it is, one can see it.
async function tabTo(page, isThere) {
  const seen = [];
  while (seen.length < MOST) {
    await page.keyboard.press('Tab');
    const focus = await focused(page);
    seen.push(focus);
    assert.ok(focus.isMarked && focus.isInSight, JSON.stringify(focus));
    if (isThere(focus)) return seen;
  }
  throw new Error(`Tab does not lead there: ${seen.map((focus) => focus.text || focus.label)}`);
}

// What has the focus, and whether one sees it.
function focused(page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    const { top, bottom, left } = element.getBoundingClientRect();
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    const titled = document.getElementById(element.getAttribute('aria-labelledby'));
    return {
      tag: element.tagName,
      id: element.id,
      text: element.innerText?.trim() ?? '',
      label: element.getAttribute('aria-label') ?? titled?.innerText ?? element.labels?.[0]?.firstChild.textContent.trim() ?? '',
      scrolled: element.scrollLeft,
      isMarked: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2,
      isInSight: bottom > 0 && top < innerHeight && left >= 0,
    };
  });
}
