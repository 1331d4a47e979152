// A real browser, and what it reports of a page: errors, violations of the policy, requests, barriers.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import assert from 'node:assert/strict';

import { chromium } from 'playwright-core';

import { chromium as program } from './environment.js';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// The success criteria of WCAG 2.2, levels A and AA.
const WCAG = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22a', 'wcag22aa'];

// Starts the browser. Root has no sandbox; the page is ours.
export function launch(...args) {
  return chromium.launch({ executablePath: program(), args });
}

// The page of a dashboard in a window of its own, and the list of what went wrong in it.
export async function enter(browser, dashboard, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const troubles = watch(page, dashboard.address.origin);
  await page.goto(dashboard.address.href);
  return { page, troubles };
}

// What must not happen: errors in the console, which has violations of the policy too, failures, requests elsewhere.
function watch(page, origin) {
  const troubles = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) troubles.push(message.text());
  });
  page.on('pageerror', (error) => troubles.push(String(error)));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) troubles.push(`request to ${request.url()}`);
  });
  page.on('requestfailed', (request) => {
    const isLeft = request.failure().errorText === 'net::ERR_ABORTED';
    if (!isLeft) troubles.push(`${request.url()}: ${request.failure().errorText}`);
  });
  return troubles;
}

// Fails if axe finds a barrier.
export async function assertAccessible(page, view) {
  await page.evaluate(AXE);
  const { violations, passes } = await page.evaluate(
    (values) =>
      globalThis.axe.run({
        runOnly: { type: 'tag', values },
        // The size of what is clicked is a criterion of 2.2, which axe checks only if it is asked to.
        rules: { 'target-size': { enabled: true } },
      }),
    WCAG,
  );
  const found = violations.map(({ id, help, nodes }) => ({
    id,
    help,
    nodes: nodes.slice(0, 3).map((node) => `${node.html.slice(0, 200)} ${node.failureSummary}`),
  }));
  assert.deepEqual(found, [], view);
  const passed = passes.map((rule) => rule.id);
  // It has looked at colours.
  assert.ok(passed.includes('color-contrast'), `${view}: ${passed}`);
}
