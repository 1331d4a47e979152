/**
 * A small cluster in memory, for tests without a host: what an action reads of it, and what its operations do to it. It
 * performs merge patches of metadata, deletions and evictions; add what else your action does.
 */
import type { Action, Effect, Imports, KubernetesObject, PodFields, Progress, Wire } from "../src/operon.js";
import { handlerOf } from "../src/operon.js";

type Pod = Wire<PodFields>;
type Pairs = [string, string][];

/** What the job of a test says, and what the host remembers of its target. */
export interface JobOptions { settings?: object; parameters?: object; extraInfo?: Pairs; ending?: boolean }

/** What became of a target: its progress, or why there is none. */
export interface Outcome { progress: Progress; reason?: string; message?: string; extraInfo: Pairs }

export class World {
  readonly pods = new Map<string, Pod>();
  readonly objects: KubernetesObject[] = [];
  readonly effects: Effect[] = [];
  readonly logged: string[] = [];
  now = 1_000_000;

  addPod(name: string, fields: Partial<Pod> = {}): void {
    this.pods.set(name, {
      name, uid: `uid-of-${name}`, resourceVersion: "1", generation: 1, observedGeneration: null, createdAt: this.now,
      phase: "Running", ready: true, readySince: this.now, deleting: false, node: null, labels: [], annotations: [],
      finalizers: [], owners: [], conditions: [], containers: [], ...fields,
    });
  }

  annotation(pod: string, key: string): string | undefined {
    return new Map(this.pods.get(pod)?.annotations).get(key);
  }

  /** What a component imports. */
  readonly imports: Imports = {
    cluster: {
      get: ({ apiVersion, kind, name }) => {
        const found = this.objects.find((object) =>
          object.apiVersion === apiVersion && object.kind === kind && object.metadata.name === name);
        return found && JSON.stringify(found);
      },
      find: (apiVersion, kind) => this.objects
        .filter((object) => object.apiVersion === apiVersion && object.kind === kind)
        .map((object) => JSON.stringify(object)),
      findPods: () => [...this.pods.values()],
      findJob: () => "active",
    },
    log: { log: (level, message) => { this.logged.push(`${level}: ${message}`); } },
  };

  /** One reconcile of one target: operate it, perform the effects, read the progress. */
  reconcile<S, P>(action: Action<S, P>, name: string, options: JobOptions = {}): Outcome {
    const { operateTarget, getOpsProgress } = handlerOf(action, this.imports);
    return this.answer(() => {
      const operation = operateTarget(this.target(name, options), this.job(options));
      operation.effects.forEach((effect) => this.perform(effect));
      const extraInfo = operation.extraInfo;
      const report = getOpsProgress(this.target(name, { ...options, extraInfo }), this.job(options));
      return { progress: report.progress, ...report.failure, extraInfo: report.extraInfo };
    });
  }

  /** The release of one target. */
  release<S, P>(action: Action<S, P>, name: string, options: JobOptions = {}): Outcome {
    const { releaseTarget } = handlerOf(action, this.imports);
    return this.answer(() => {
      const operation = releaseTarget(this.target(name, options), this.job({ ...options, ending: true }));
      operation.effects.forEach((effect) => this.perform(effect));
      return { progress: "failed", ...operation.unfinished?.failure, extraInfo: operation.extraInfo };
    });
  }

  private answer(call: () => Outcome): Outcome {
    try {
      return call();
    } catch (error: any) {
      if (error?.tag === "terminal") return { progress: "failed", ...error.val, extraInfo: [] };
      if (error?.tag === "retry") return { progress: "processing", ...error.val[0], extraInfo: [] };
      throw error;
    }
  }

  private target(name: string, { extraInfo = [] }: JobOptions) {
    const pod = this.pods.get(name);
    const containers = pod?.containers.map((container) => container.name) ?? [];
    const times = { startedAt: this.now, deadline: null };
    return { name, uid: pod?.uid ?? null, containers, pod, extraInfo, ...times, lastFailure: null };
  }

  private job({ settings = {}, parameters = {}, ending = false }: JobOptions) {
    return {
      namespace: "default", name: "test", uid: "uid-of-test", action: "AnnotateTs",
      ending, dryRun: false, lifecycle: false, now: this.now,
      settings: JSON.stringify(settings), parameters: JSON.stringify(parameters),
    };
  }

  private perform(effect: Effect): void {
    this.effects.push(effect);
    if (effect.tag === "evict") this.pods.delete(effect.val.pod);
    if (effect.tag === "delete") this.pods.delete(effect.val.object.name);
    if (effect.tag !== "patch" || effect.val.kind !== "merge") return;
    const pod = this.pods.get(effect.val.object.name);
    if (!pod) return;
    const { labels = {}, annotations = {} } = JSON.parse(effect.val.body).metadata ?? {};
    const merged = (pairs: Pairs, changes: Record<string, string | null>) =>
      Object.entries({ ...Object.fromEntries(pairs), ...changes })
        .filter((pair): pair is [string, string] => pair[1] !== null);
    const resourceVersion = `${Number(pod.resourceVersion) + 1}`;
    const changed = { labels: merged(pod.labels, labels), annotations: merged(pod.annotations, annotations) };
    this.pods.set(pod.name, { ...pod, ...changed, resourceVersion });
  }
}
