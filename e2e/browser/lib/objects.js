// An object of each kind, as Operon's host would have written its status.

import { eventually } from './eventually.js';

export const NAMESPACE = 'shop';

// A moment so many seconds ago.
const ago = (seconds) => `${new Date(Date.now() - seconds * 1000).toISOString().slice(0, 19)}Z`;

const condition = (type, status, reason, message) => ({
  type,
  status,
  reason,
  message,
  lastTransitionTime: ago(240),
});

const named = (kind, name, fields) => ({
  kind,
  metadata: { name, namespace: NAMESPACE },
  ...fields,
});

const container = { name: 'main', image: 'registry.example/shop:1.8.2', command: ['/shop'] };
const podTemplate = { spec: { restartPolicy: 'Never', containers: [container] } };

// No node has this label, so the scheduler says why the pod waits.
const nowhere = { ...podTemplate.spec, nodeSelector: { disk: 'nvme' } };

// Two targets failed, two wait for something, others run, are done, or are held back.
export function restart() {
  const target = (letters) => ({ name: `web-5c9d8f7b6-${letters}` });
  const letters = ['p4xq8', 'q8m2z', 'k7v5d', 'z2h9c', 'b6n4t', 'w3r8f', 'h9s2k', 'd5g7x', 'm4c6v', 't8j3n', 'x2l5p', 'f7b9q'];
  const targets = letters.map(target);
  const error = (reason, message) => ({ reason, message });
  const detail = (place, progress, started, more = {}) => ({
    ...targets[place],
    progress,
    startTime: ago(started),
    ...more,
  });
  return named('OperationJob', 'restart-web', {
    spec: { action: 'Restart', targets, partition: 10, maxUnavailable: '25%' },
    status: {
      observedGeneration: 1,
      progress: 'Processing',
      startTime: ago(312),
      totalPodCount: 12,
      succeededPodCount: 5,
      failedPodCount: 2,
      conditions: [condition('Reconciling', 'True', 'Processing', '5 of 12 targets succeeded, 2 failed')],
      targetDetails: [
        detail(0, 'Failed', 290, { endTime: ago(60), error: error('ContainerNotReady', 'container main CrashLoopBackOff: back-off 1m20s restarting failed container') }),
        detail(1, 'Failed', 280, { endTime: ago(45), error: error('DeadlineExceeded', 'not finished within 240 s; it waited for container main') }),
        detail(2, 'Processing', 41, { error: error('DisruptionRefused', 'PodDisruptionBudget web allows 0 disruptions') }),
        detail(3, 'Processing', 35, { error: error('ContainerNotReady', 'container main is starting') }),
        detail(4, 'Processing', 12),
        ...[5, 6, 7, 8, 9].map((place) => detail(place, 'Succeeded', 300 - place, { endTime: ago(200 - place) })),
      ],
    },
  });
}

// A job of so many targets, more than a page of the table has; every twentieth failed.
export function drain(count) {
  const targets = Array.from({ length: count }, (_, place) => ({ name: `cart-${String(place).padStart(4, '0')}` }));
  const details = targets.slice(0, count / 2).map(({ name }, place) =>
    place % 20 === 7
      ? { name, progress: 'Failed', startTime: ago(500), endTime: ago(90), error: { reason: 'EvictionRefused', message: 'PodDisruptionBudget cart allows 0 disruptions' } }
      : { name, progress: 'Succeeded', startTime: ago(500), endTime: ago(400) },
  );
  const failed = details.filter((detail) => detail.progress === 'Failed').length;
  return named('OperationJob', 'drain-zone-b', {
    spec: { action: 'Evict', targets, paused: true },
    status: {
      observedGeneration: 1,
      progress: 'Processing',
      startTime: ago(520),
      totalPodCount: count,
      succeededPodCount: details.length - failed,
      failedPodCount: failed,
      conditions: [condition('Reconciling', 'True', 'Paused', 'the job is paused')],
      targetDetails: details,
    },
  });
}

// A job that has done everything.
export function finished() {
  const targets = ['api-0', 'api-1'].map((name) => ({ name }));
  return named('OperationJob', 'label-api', {
    spec: { action: 'Label', targets, parameters: { set: { tier: 'canary' } } },
    status: {
      observedGeneration: 1,
      progress: 'Succeeded',
      startTime: ago(3600),
      endTime: ago(3590),
      totalPodCount: 2,
      succeededPodCount: 2,
      conditions: [condition('Ready', 'True', 'Succeeded', '2 of 2 targets succeeded')],
      targetDetails: targets.map(({ name }) => ({ name, progress: 'Succeeded', startTime: ago(3600), endTime: ago(3590) })),
    },
  });
}

// A flow in the middle: a step was tried twice, one is blocked, one was skipped.
export function release() {
  const step = (name, dependencies = [], more = {}) => ({
    name,
    dependencies,
    jobTemplate: { template: podTemplate },
    ...more,
  });
  const at = (name, phase, more = {}) => ({ name, phase, ...more });
  const done = (name, from, to, more) => at(name, 'Succeeded', { startTime: ago(from), completionTime: ago(to), attempts: 1, ...more });
  return named('JobFlow', 'release', {
    spec: {
      failurePolicy: 'Continue',
      onExit: 'report',
      flows: [
        step('checkout', [], { outputs: ['commit'] }),
        step('build', ['checkout'], { outputs: ['digest'] }),
        step('lint', ['checkout']),
        step('unit-tests', ['build']),
        step('load-tests', ['build'], { retry: { limit: 2 } }),
        step('scan', ['build']),
        step('canary', ['unit-tests', 'load-tests', 'scan']),
        step('roll-out', ['canary', 'lint']),
        step('roll-back', ['canary'], { when: 'steps["canary"].phase == "Failed"' }),
        step('report'),
      ],
    },
    status: {
      observedGeneration: 1,
      state: 'Running',
      progress: '4/10',
      startTime: ago(600),
      conditions: [condition('Reconciling', 'True', 'Running', '4 of 10 steps succeeded; step load-tests runs')],
      steps: [
        done('checkout', 600, 580, { outputs: { commit: '9f2c41d' } }),
        done('build', 580, 400, { outputs: { digest: 'sha256:4be1f0c2a97d' } }),
        done('lint', 580, 540),
        done('unit-tests', 400, 300),
        at('load-tests', 'Running', { startTime: ago(120), attempts: 2, jobName: 'release-load-tests-2', reason: 'PodUnschedulable', message: '0/3 nodes are available: 3 node(s) did not match Pod\'s node affinity/selector' }),
        at('scan', 'Failed', { startTime: ago(400), completionTime: ago(350), attempts: 1, reason: 'JobFailed', message: 'BackoffLimitExceeded: exit code 2: 3 packages have known vulnerabilities' }),
        at('canary', 'Waiting'),
        at('roll-out', 'Waiting'),
        at('roll-back', 'Waiting'),
        at('report', 'Waiting'),
      ],
    },
  });
}

// The Job of the step that runs, and its pod, which no node takes.
export function jobOf(flow) {
  return named('Job', 'release-load-tests-2', {
    metadata: {
      name: 'release-load-tests-2',
      namespace: NAMESPACE,
      labels: { 'operon.dev/owner-uid': flow.metadata.uid, 'operon.dev/step': 'load-tests' },
      annotations: { 'operon.dev/run-attempt': '2' },
    },
    spec: { template: { spec: nowhere } },
  });
}

// A wave of nodes: one failed, one is blocked.
export function patch() {
  return named('DaemonJob', 'kernel-patch', {
    spec: { template: podTemplate, rollout: { parallelism: 2, failurePolicy: 'Pause', canary: { count: 1 } } },
    status: {
      observedGeneration: 1,
      state: 'Running',
      progress: '3/6',
      startTime: ago(900),
      desired: 6,
      active: 1,
      succeeded: 3,
      failed: 1,
      skipped: 1,
      wave: { name: 'rest' },
      conditions: [condition('Reconciling', 'True', 'Running', '3 of 6 nodes succeeded; wave rest runs')],
      failedNodes: [{ name: 'node-4', jobName: 'kernel-patch-node-4', attempts: 1, exitCode: 1, reason: 'BackoffLimitExceeded', message: 'exit code 1: /boot has no room' }],
      blockedNodes: [{ name: 'node-5', jobName: 'kernel-patch-node-5', reason: 'ImagePullBackOff', message: 'container main: no such image', since: ago(75) }],
    },
  });
}

// Runs of a template that changed twice; the last one failed.
export function report() {
  const run = (name, outcome, from, to, more) => ({ jobName: name, outcome, startTime: ago(from), completionTime: ago(to), ...more });
  return named('ReactiveJob', 'nightly-report', {
    spec: { jobTemplate: { spec: { template: podTemplate } } },
    status: {
      observedGeneration: 1,
      state: 'Error',
      currentJobName: 'nightly-report-3',
      conditions: [condition('Ready', 'False', 'Error', 'Job nightly-report-3 failed'), condition('Stalled', 'True', 'JobFailed', 'Job nightly-report-3 failed')],
      lastFailure: { jobName: 'nightly-report-3', reason: 'BackoffLimitExceeded', message: 'exit code 3', exitCode: 3, time: ago(600) },
      runs: [
        run('nightly-report-3', 'Failed', 700, 600, { reason: 'ConfigChanged', changes: ['ConfigMap report-settings: key columns'] }),
        run('nightly-report-2', 'Succeeded', 4000, 3900, { reason: 'TemplateChanged', changes: ['spec.template.spec.containers[0].image: shop:1.8.1 -> shop:1.8.2'] }),
        run('nightly-report-1', 'Succeeded', 90000, 89900, { reason: 'Created' }),
      ],
    },
  });
}

// Pods of two revisions; the partition keeps one back.
export function site() {
  const labels = { app: 'site' };
  return named('CollaSet', 'site', {
    spec: {
      replicas: 3,
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { containers: [container] } },
      updateStrategy: { rollingUpdate: { byPartition: { partition: 1 } } },
    },
    status: {
      observedGeneration: 1,
      selector: 'app=site',
      replicas: 3,
      readyReplicas: 2,
      availableReplicas: 2,
      updatedReplicas: 2,
      conditions: [condition('Reconciling', 'True', 'Waiting', 'pod site-c waits: 0/3 nodes are available'), condition('Ready', 'False', 'Waiting', 'pod site-c waits: 0/3 nodes are available')],
    },
  });
}

// The pods of the CollaSet; the last one fits nowhere.
export function podsOf(set) {
  const { apiVersion, kind, metadata } = set;
  const owner = { apiVersion, kind, name: metadata.name, uid: metadata.uid, controller: true };
  return ['site-a', 'site-b', 'site-c'].map((name) => ({
    kind: 'Pod',
    metadata: { name, namespace: NAMESPACE, labels: { app: 'site' }, ownerReferences: [owner] },
    spec: name === 'site-c' ? nowhere : podTemplate.spec,
  }));
}

// A pod on the node that has logs.
export function talkative(nodeName) {
  return named('Pod', 'talkative', { spec: { ...podTemplate.spec, nodeName } });
}

// One action that is served, and one that is not.
export function plugins() {
  const digest = `sha256:${'4be1f0c2a97d35e8'.repeat(4)}`;
  const plugin = (name, action, conditions, more) => ({
    kind: 'ActionPlugin',
    metadata: { name },
    spec: { action, serviceAccountName: `operon-action-${name}`, source: { oci: { reference: `registry.example/actions/${name}:1.4` } } },
    status: { observedGeneration: 1, conditions, ...more },
  });
  return [
    plugin('restart', 'Restart', [condition('Ready', 'True', 'Loaded', 'the component is loaded')], {
      source: `oci registry.example/actions/restart:1.4`,
      artifact: { reference: 'registry.example/actions/restart:1.4', manifest: digest },
      digest,
      shortDigest: '4be1f0c2a97d',
      interfaceVersion: '1.0.0',
      signers: ['key 1'],
      watches: ['Pod', 'PodDisruptionBudget'],
    }),
    plugin('warm-cache', 'WarmCache', [
      condition('Ready', 'False', 'DigestMismatch', 'the registry has another artifact than spec.digest'),
      condition('Stalled', 'True', 'DigestMismatch', 'the registry has another artifact than spec.digest'),
    ]),
  ];
}

// What happened to an object.
export function event({ apiVersion, kind, metadata }, reason, message, type = 'Warning') {
  const namespace = metadata.namespace ?? 'default';
  return {
    kind: 'Event',
    metadata: { name: `${metadata.name}.${reason.toLowerCase()}`, namespace },
    involvedObject: { apiVersion, kind, namespace: metadata.namespace, name: metadata.name, uid: metadata.uid },
    reason,
    message,
    type,
    count: 3,
    firstTimestamp: ago(120),
    lastTimestamp: ago(15),
    source: { component: 'operon' },
  };
}

// Writes all of them.
export async function createAll(cluster) {
  await cluster.create({ kind: 'Namespace', metadata: { name: NAMESPACE } });
  const account = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/default`;
  await eventually('pods are allowed', () => cluster.request('GET', account));
  const job = await cluster.create(restart());
  await cluster.create(event(job, 'TargetFailed', 'target web-5c9d8f7b6-p4xq8 failed: ContainerNotReady: <b>back-off</b> 1m20s restarting failed container'));
  for (const object of [drain(250), finished(), patch(), report(), ...plugins()]) await cluster.create(object);
  await cluster.create(jobOf(await cluster.create(release())));
  for (const pod of podsOf(await cluster.create(site()))) await cluster.create(pod);
  return job;
}
