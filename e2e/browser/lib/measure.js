// What is measured in a page while it changes, and the table of it.

// Collects, from now on: when which progress was painted, tasks that block the page, and how long keys take.
export function observe(page) {
  return page.evaluate(() => {
    const figures = { painted: [], tasks: [], keys: [] };
    const done = () => Number(document.querySelector('[data-say]')?.textContent.match(/(\d+) of/)?.[1]);
    let last = done();
    new MutationObserver(() => {
      const now = done();
      if (now === last || Number.isNaN(now)) return;
      last = now;
      // The task after the next frame: it has been painted.
      requestAnimationFrame(() => setTimeout(() => figures.painted.push({ at: Date.now(), done: now })));
    }).observe(document.getElementById('live'), { subtree: true, childList: true, characterData: true });
    new PerformanceObserver((list) => {
      figures.tasks.push(...list.getEntries().map((task) => task.duration));
    }).observe({ type: 'longtask' });
    new PerformanceObserver((list) => {
      const keys = list.getEntries().filter((event) => event.name === 'keydown');
      figures.keys.push(...keys.map((event) => event.duration));
    }).observe({ type: 'event', durationThreshold: 16 });
    globalThis.figures = figures;
  });
}

export const figures = (page) => page.evaluate(() => globalThis.figures);

// Milliseconds from the start of the navigation until everything was loaded and painted.
export function firstView(page) {
  return page.evaluate(async () => {
    const painted = () => performance.getEntriesByName('first-contentful-paint')[0]?.startTime;
    const loaded = () => performance.getEntriesByType('navigation')[0].loadEventEnd;
    while (!painted() || !loaded()) await new Promise((next) => requestAnimationFrame(next));
    return Math.max(painted(), loaded());
  });
}

// Milliseconds from each write until it was painted: that one, or a later one.
export function delays(writes, painted) {
  return writes.map(({ at, done }) => {
    const seen = painted.find((one) => one.done >= done);
    return seen === undefined ? Infinity : Math.max(0, seen.at - at);
  });
}

export function quantile(values, part) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? 0;
}

// The medians of the third and of the last quarter of what was sampled.
function quarters(samples) {
  const quarter = Math.floor(samples.length / 4);
  return [samples.slice(2 * quarter, 3 * quarter), samples.slice(3 * quarter)].map((part) => quantile(part, 0.5));
}

// Rows of a measure, its value and its goal.
export class Table {
  rows = [];
  failures = [];

  // A measure without a goal.
  add(measure, value) {
    this.rows.push([measure, value, '']);
  }

  // A measure below a limit. A test fails if it is over the limit times the slack.
  below(measure, value, limit, unit, slack = 1) {
    const verdict = value < limit ? 'met' : '**missed**';
    this.rows.push([measure, `${value.toFixed(0)} ${unit}`, `below ${limit} ${unit}: ${verdict}`]);
    if (!(value < limit * slack)) this.failures.push(`${measure}: ${value} ${unit}`);
  }

  // Samples that do not grow any more: the last quarter has at most a tenth and 4 MiB more than the third.
  flat(measure, samples) {
    const [third, last] = quarters(samples);
    const value = `${third.toFixed(0)}, ${last.toFixed(0)} MiB`;
    const isFlat = last <= third * 1.1 + 4;
    this.rows.push([`${measure}, third and last quarter`, value, `flat: ${isFlat ? 'met' : '**missed**'}`]);
    if (!isFlat) this.failures.push(`${measure}: ${value}`);
  }

  get markdown() {
    const rows = [['measure', 'value', 'goal'], ['---', '---', '---'], ...this.rows];
    return rows.map((row) => `| ${row.join(' | ')} |\n`).join('');
  }
}
