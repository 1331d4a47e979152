// Objects of the largest size, and a client that changes their statuses as Operon's host does while they run.

import { setTimeout as pause } from 'node:timers/promises';

// How many targets are in progress at the same time.
const IN_PROGRESS = 100;

// Every so many targets, one fails.
const FAILS = 50;

// When all of them began.
const START = '2026-01-01T00:00:00Z';

// A job of so many targets. Each changes three times: it starts, waits for something, and ends.
export function job(name, namespace, count) {
  const targets = Array.from({ length: count }, (_, place) => ({
    name: `web-5c9d8-${String(place).padStart(5, '0')}`,
  }));
  const detail = (place, age) => {
    const { name: target } = targets[place];
    // Named, although the host omits those that wait: so the object has its full size from the beginning.
    if (age <= 0) return { name: target, progress: 'Pending' };
    if (age > IN_PROGRESS) {
      const isFailed = place % FAILS === 0;
      const error = { reason: 'DeadlineExceeded', message: 'it waited for container main' };
      // The host omits the times of what has finished where there are so many: the object has to fit into 1.5 MiB.
      return isFailed ? { name: target, progress: 'Failed', error } : { name: target, progress: 'Succeeded' };
    }
    const error = { reason: 'ContainerNotReady', message: 'container main is starting' };
    const waits = age > IN_PROGRESS / 2 ? { error } : {};
    return { name: target, progress: 'Processing', startTime: START, ...waits };
  };
  return {
    object: {
      kind: 'OperationJob',
      metadata: { name, namespace },
      spec: { action: 'Restart', targets },
    },
    // The status after so many changes of targets.
    status(changes) {
      const started = Math.min(Math.floor(changes / 3) + IN_PROGRESS, count + IN_PROGRESS + 1);
      const details = targets.map((_, place) => detail(place, started - place));
      const number = (progress) => details.filter((one) => one.progress === progress).length;
      const succeeded = number('Succeeded');
      return {
        observedGeneration: 1,
        progress: succeeded + number('Failed') < count ? 'Processing' : 'Failed',
        startTime: START,
        totalPodCount: count,
        succeededPodCount: succeeded,
        failedPodCount: number('Failed'),
        targetDetails: details,
      };
    },
    // How much of it the page says is done.
    done: (status) => status.succeededPodCount,
  };
}

// A flow of so many steps, in layers of ten. Each changes twice: it starts, and succeeds.
export function flow(name, namespace, count) {
  const template = { spec: { restartPolicy: 'Never', containers: [{ name: 'main', image: 'shop' }] } };
  const called = (place) => `step-${String(place).padStart(4, '0')}`;
  const flows = Array.from({ length: count }, (_, place) => ({
    name: called(place),
    // The step above it, and that one's neighbour.
    dependencies: place < 10 ? [] : [...new Set([place - 10, Math.min(place - 9, place - (place % 10) - 1)])].map(called),
    jobTemplate: { template },
  }));
  const step = (place, succeeded, started) => {
    if (place < succeeded) return { name: called(place), phase: 'Succeeded', startTime: START, completionTime: START };
    return { name: called(place), phase: place < started ? 'Running' : 'Waiting' };
  };
  return {
    object: { kind: 'JobFlow', metadata: { name, namespace }, spec: { flows } },
    status(changes) {
      const succeeded = Math.min(Math.floor(changes / 2), count);
      const started = Math.min(Math.ceil(changes / 2) + 10, count);
      return {
        observedGeneration: 1,
        state: succeeded < count ? 'Running' : 'Succeed',
        progress: `${succeeded}/${count}`,
        startTime: START,
        steps: flows.map((_, place) => step(place, succeeded, started)),
      };
    },
    done: (status) => Number(status.progress.split('/')[0]),
  };
}

// Writes statuses for that long, so many changes a second, in a write every `every` milliseconds or less often if the API
// server takes longer. Returns of each write when it was answered, and how much was done then.
export async function write(cluster, created, { status, done }, { seconds, rate, every }) {
  const begin = Date.now();
  const writes = [];
  let next = begin + every;
  for (;;) {
    await pause(Math.max(0, next - Date.now()));
    const elapsed = Math.min((Date.now() - begin) / 1000, seconds);
    const changes = Math.floor(rate * elapsed);
    const written = status(changes);
    next = Date.now() + every;
    await cluster.status(created, written);
    writes.push({ at: Date.now(), done: done(written), changes });
    if (elapsed >= seconds) return writes;
  }
}
