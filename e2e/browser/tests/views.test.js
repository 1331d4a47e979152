// Every view in a real browser, in light and dark: it shows what it should, violates no policy, asks no other server, has
// no barrier that axe finds, and needs no colour to be understood.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';

import { assertAccessible, enter, launch } from '../lib/browser.js';
import { Cluster } from '../lib/cluster.js';
import { Dashboard } from '../lib/dashboard.js';
import { artifacts } from '../lib/environment.js';
import { Kubelet } from '../lib/kubelet.js';
import { createAll, talkative } from '../lib/objects.js';

// Name, path, and what it shows.
const VIEWS = [
  ['overview', '/', ['OperationJob restart-web', 'JobFlow release', 'ActionPlugin warm-cache']],
  ['overview-failed', '/?state=failed', ['ReactiveJob nightly-report']],
  ['overview-empty', '/?text=nothing-has-this-name', ['No object matches']],
  ['operationjob', '/operationjobs/shop/restart-web', ['ContainerNotReady', 'PodDisruptionBudget web allows 0 disruptions', 'web-5c9d8f7b6-f7b9q', '<b>back-off</b>']],
  ['operationjob-pages', '/operationjobs/shop/drain-zone-b?state=Succeeded&page=2', ['Page 2 of 2', 'Show all 250 targets']],
  ['jobflow', '/jobflows/shop/release', ['load-tests', '0/3 nodes', 'sha256:4be1f0c2a97d', 'Pod release-load-tests-2-']],
  ['daemonjob', '/daemonjobs/shop/kernel-patch', ['node node-4', '/boot has no room', 'wave rest']],
  ['reactivejob', '/reactivejobs/shop/nightly-report', ['ConfigMap report-settings: key columns']],
  ['collaset', '/collasets/shop/site', ['Pod site-c', 'keeps the previous revision']],
  ['question', '/operationjobs/shop/restart-web/promote', ['It would write these fields', 'Another number']],
  ['question-refused', '/operationjobs/shop/label-api/pause', ['has finished']],
  ['actionplugin', '/actionplugins/restart', ['sha256:4be1f0c2a97d', 'key 1']],
  ['log', '/pods/shop/talkative', ['Container main', 'line 300 of the log']],
  ['log-refused', '/pods/shop/site-a', ['Container main', 'connection refused']],
  ['missing', '/jobflows/shop/nothing', ['Show all objects']],
  ['nowhere', '/jobflow', ['this page has no such address']],
];

// The status of views of what does not exist or cannot be done; the browser says it in its console.
const STATUSES = { missing: 404, nowhere: 404, 'question-refused': 409 };

describe('every view', () => {
  let cluster, kubelet, dashboard, browser, page, troubles;

  before(async () => {
    cluster = Cluster.connect();
    await createAll(cluster);
    kubelet = await Kubelet.join(cluster, 'talks');
    kubelet.lines = Array.from({ length: 300 }, (_, line) => `line ${line + 1} of the log`);
    await cluster.create(talkative('talks'));
    dashboard = await Dashboard.start();
    browser = await launch();
    // The token can be used once, so there is one window, which changes its colours.
    ({ page, troubles } = await enter(browser, dashboard));
    mkdirSync(artifacts(), { recursive: true });
  });

  after(async () => {
    await browser?.close();
    await dashboard?.stop();
    kubelet?.close();
    cluster?.close();
  });

  test('renders, is accessible, and stays within the policy', async (t) => {
    for (const [name, path, texts] of VIEWS) {
      for (const colorScheme of ['light', 'dark']) {
        await t.test(`${name}, ${colorScheme}`, async () => {
          await page.setViewportSize({ width: 1280, height: 800 });
          await page.emulateMedia({ colorScheme });
          await page.goto(dashboard.at(path));
          const main = page.locator('main');
          for (const text of texts) await main.getByText(text).filter({ visible: true }).first().waitFor({ timeout: 20_000 });
          await assertAccessible(page, name);
          await page.screenshot({ path: join(artifacts(), `${name}-${colorScheme}.png`), fullPage: true });
          assert.deepEqual(await withoutWords(page), []);
          assert.equal(await isWiderThan(page, 320), false, 'it fits a narrow window');
          const expected = new RegExp(name in STATUSES ? `status of ${STATUSES[name]}` : '^$');
          assert.deepEqual(troubles.splice(0).filter((trouble) => !expected.test(trouble)), []);
        });
      }
    }
  });

  test('of a log shows the newest line, also when one is added', async () => {
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.goto(dashboard.at('/pods/shop/talkative'));
    assert.equal(await isAtEnd(page), true);
    kubelet.lines.push('one more line');
    await page.locator('pre').getByText('one more line').waitFor();
    assert.equal(await isAtEnd(page), true);
  });
});

// Whether the last line of a log is in sight.
function isAtEnd(page) {
  return page.evaluate(() => {
    const log = document.querySelector('pre');
    const end = document.createRange();
    end.setStart(log.lastChild, log.lastChild.length - 1);
    end.setEnd(log.lastChild, log.lastChild.length);
    return end.getBoundingClientRect().bottom <= log.getBoundingClientRect().bottom;
  });
}

// The marks, squares and steps that only a colour tells apart.
function withoutWords(page) {
  return page.evaluate(() => {
    const marks = [...document.querySelectorAll('.mark')];
    const squares = [...document.querySelectorAll('.grid > span')];
    const steps = [...document.querySelectorAll('svg .box')].map((box) => box.parentElement);
    const isWord = /[a-z]{4}/i;
    return [
      ...marks.filter((mark) => !mark.children[0].textContent.trim() || !isWord.test(mark.querySelector('.unseen').textContent)),
      ...squares.filter((square) => !square.textContent.trim()),
      ...steps.filter((step) => !isWord.test(step.querySelector('.phase')?.textContent)),
    ].map((element) => element.outerHTML);
  });
}

// Whether one has to scroll sideways to read the page in a window of that width; tables and images scroll by themselves.
async function isWiderThan(page, width) {
  await page.setViewportSize({ width, height: 640 });
  return page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
}
