/**
 * What an action is written with: the shapes of `wit/action.wit` as an action sees them, builders for its answers, and
 * the glue to the four functions that the host calls. It depends on no package. The action is in `action.ts`; this file
 * stays as it is, and a newer `operon plugin new` writes a newer one.
 */

/** What an OperationJob does to one pod. All functions may be called again at any time, in any state of the cluster. */
export interface Action<Settings = object, Parameters = object> {
  /** JSON Schema of `spec.settings` of the ActionPlugin. Without it, there are no settings. */
  settings?: Schema;
  /** JSON Schema of `spec.parameters` of a job. Without it, a job has no parameters. */
  parameters?: Schema;
  /** Called when the component is loaded, before the host checks the settings. By default nothing is watched. */
  setup?(settings: Settings): Registration;
  /** What to do with the target now; called until the target has finished. */
  operateTarget(target: Target, job: Job<Settings, Parameters>, cluster: Cluster): Operation;
  /** How far the target is. */
  getOpsProgress(target: Target, job: Job<Settings, Parameters>, cluster: Cluster): ProgressReport;
  /** What to undo of a target that failed or was cancelled. By default nothing. */
  releaseTarget?(target: Target, job: Job<Settings, Parameters>, cluster: Cluster): Operation;
}

export type Schema = Record<string, unknown>;
export type Attributes = ReadonlyMap<string, string>;

/** What an action reads, and what it is. */
export interface Registration {
  watches?: Watch[];
  /** The label by which the action marks a pod that it must finish or release; its value is the job's uid. */
  jobLabel?: string;
  /** The action removes the pods of its targets. */
  removesPods?: boolean;
  /** The first operation of a target says all that the action will do. */
  supportsDryRun?: boolean;
}

/** A kind that the action reads. */
export interface Watch {
  apiVersion: string;
  kind: string;
  /** Only objects with these labels. */
  labelSelector?: string;
  /** The top-level fields to read besides `metadata`; the host keeps no others. Without it, all. */
  fields?: string[];
  /** The targets that a changed object wakes. */
  wakes?: Mapping[];
  /** The API server may not serve the kind: reads then throw a `ReadError`. */
  optional?: boolean;
  /** The kind has no namespaces; only nodes can be read so. */
  clusterScoped?: boolean;
}

/** The targets that a changed object concerns: each is explained in `wit/action.wit`. */
export type Mapping =
  | { label: string } | { extraInfo: string } | { uidInLabel: string } | { uidInExtraInfo: string }
  | "namespace" | "node";

/** An object of Kubernetes, as the API server has it. */
export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; [field: string]: any };
  [field: string]: any;
}

export interface ObjectReference { apiVersion: string; kind: string; name: string }
export interface OwnerReference extends ObjectReference {
  uid: string;
  controller: boolean;
  blockOwnerDeletion: boolean;
}
export interface Requirement { object: ObjectReference; uid: string; resourceVersion?: string }
export interface Failure { reason: string; message: string }
export interface Condition { name: string; status: string; reason: string; message: string; since?: number }

export interface Container {
  name: string;
  kind: "ordinary" | "sidecar" | "init" | "ephemeral";
  image: string;
  imageId?: string;
  ready: boolean;
  restartCount: number;
  phase: "waiting" | "running" | "terminated";
  reason?: string;
  message?: string;
  exitCode?: number;
  containerId?: string;
}

/** What an action mostly needs of a pod; `cluster.get` has the rest. Times are seconds since the Unix epoch. */
export interface PodFields {
  name: string;
  uid: string;
  resourceVersion: string;
  generation: number;
  observedGeneration?: number;
  createdAt: number;
  phase: string;
  ready: boolean;
  readySince?: number;
  deleting: boolean;
  node?: string;
  labels: Attributes;
  annotations: Attributes;
  finalizers: string[];
  owners: OwnerReference[];
  conditions: Condition[];
  containers: Container[];
}

export interface Pod extends Readonly<PodFields> {}
export class Pod {
  constructor(wire: Wire<PodFields>) {
    const maps = { labels: new Map(wire.labels), annotations: new Map(wire.annotations) };
    Object.assign(this, lifted(wire), maps);
  }

  /** The owner that controls this pod; at most one does. */
  get controller(): OwnerReference | undefined { return this.owners.find((owner) => owner.controller); }

  /** Starts a patch of this pod's metadata. It is refused if the pod is another, or has changed, since it was read. */
  edit(): MetadataEdit { return new MetadataEdit(this); }

  /** The deletion of this pod, and of no later one of its name. */
  delete(): Delete { return { object: this.reference(), uid: this.uid }; }

  /** The eviction of this pod, and of no later one of its name. */
  evict(): Evict { return { pod: this.name, uid: this.uid }; }

  /** Requires that this pod exists, is not being deleted, and has not changed since it was read. */
  unchanged(): Requirement {
    return { object: this.reference(), uid: this.uid, resourceVersion: this.resourceVersion };
  }

  reference(): ObjectReference { return { apiVersion: "v1", kind: "Pod", name: this.name }; }
}

/** Changes of a pod's metadata, collected into one patch. Null removes a label or an annotation. */
export class MetadataEdit {
  private readonly metadata: { labels?: Changes; annotations?: Changes; finalizers?: string[] } = {};

  constructor(private readonly pod: Pod) {}

  setLabel(key: string, value: string | null): this {
    this.metadata.labels = { ...this.metadata.labels, [key]: value };
    return this;
  }

  setAnnotation(key: string, value: string | null): this {
    this.metadata.annotations = { ...this.metadata.annotations, [key]: value };
    return this;
  }

  removeFinalizer(name: string): this {
    this.metadata.finalizers = (this.metadata.finalizers ?? this.pod.finalizers).filter((other) => other !== name);
    return this;
  }

  patch(): Patch {
    const { uid, resourceVersion } = this.pod;
    const body = JSON.stringify({ metadata: this.metadata });
    return { object: this.pod.reference(), kind: "merge", body, uid, resourceVersion };
  }
}

type Changes = Record<string, string | null>;

export interface Patch {
  object: ObjectReference;
  /** `status`, `resize`, `ephemeralcontainers`; without it, the object itself. */
  subresource?: string;
  kind: "merge" | "json" | "strategic";
  /** The patch, as JSON. */
  body: string;
  uid?: string;
  resourceVersion?: string;
}

export interface Delete { object: ObjectReference; uid?: string; resourceVersion?: string; gracePeriodSeconds?: number }
export interface Evict { pod: string; uid?: string; resourceVersion?: string; gracePeriodSeconds?: number }
export interface Event extends Failure { severity: "normal" | "warning" }

/** What the host has to do, in the job's namespace, as the action's ServiceAccount. */
export type Effect =
  | { tag: "patch"; val: Patch } | { tag: "apply" | "create"; val: string } | { tag: "delete"; val: Delete }
  | { tag: "evict"; val: Evict } | { tag: "event"; val: Event };

/** One entry of the job's `spec.targets`. */
export interface TargetFields {
  name: string;
  /** The uid of the pod as it was when the target started. */
  uid?: string;
  containers: string[];
  /** What this action recorded for this target. */
  extraInfo: Attributes;
  startedAt?: number;
  deadline?: number;
  lastFailure?: Failure;
}

export interface Target extends Readonly<TargetFields> {}
export class Target {
  /** The pod of this name and uid; none if there is none (any more). */
  readonly pod?: Pod;

  constructor({ pod, ...wire }: Wire<TargetFields> & { pod?: Wire<PodFields> | null }) {
    Object.assign(this, lifted(wire), { pod: pod ? new Pod(pod) : undefined, extraInfo: new Map(wire.extraInfo) });
  }

  /** The target's pod; a target without one fails with `PodNotFound`. */
  existingPod(): Pod {
    if (!this.pod) throw ActionError.terminal("PodNotFound", `there is no pod ${JSON.stringify(this.name)}`);
    return this.pod;
  }
}

/** The OperationJob that the call is for. */
export interface JobFields {
  namespace: string;
  name: string;
  uid: string;
  action: string;
  /** The target is about to be released. */
  ending: boolean;
  dryRun: boolean;
  lifecycle: boolean;
  /** Seconds since the Unix epoch. There is no other clock. */
  now: number;
}

/** The job, with `spec.settings` of the ActionPlugin and `spec.parameters` of the job, as their schemas have them. */
export type Job<Settings = object, Parameters = object> =
  Readonly<JobFields & { settings: Settings; parameters: Parameters }>;

/** What all answers have: the target's `extraInfo` from now on. */
abstract class Answer {
  readonly extraInfo: Map<string, string>;

  constructor(target: Target) { this.extraInfo = new Map(target.extraInfo); }

  /** Sets one entry of the target's `extraInfo`. */
  remember(key: string, value: string): this { this.extraInfo.set(key, value); return this; }

  /** Removes one entry of the target's `extraInfo`. */
  forget(key: string): this { this.extraInfo.delete(key); return this; }
}

/** What to do, and what to remember. */
export class Operation extends Answer {
  readonly effects: Effect[] = [];
  readonly requirements: Requirement[] = [];
  limit?: { labelSelector: string; pods: number };
  waits?: { failure: Failure; recheckAfter?: number };

  /** No effects, and the target's `extraInfo` stays as it is. */
  static of(target: Target): Operation { return new Operation(target); }

  /** Adds an object that must exist when the effects are performed. */
  requiring(requirement: Requirement): this { this.requirements.push(requirement); return this; }

  /** The effects are performed only while fewer pods than this match the label selector. */
  limitedTo(pods: number, labelSelector: string): this { this.limit = { labelSelector, pods }; return this; }

  effect(effect: Effect): this { this.effects.push(effect); return this; }
  patch(patch: Patch | MetadataEdit): this {
    return this.effect({ tag: "patch", val: patch instanceof MetadataEdit ? patch.patch() : patch });
  }
  /** Server-side apply of a whole object. */
  apply(object: KubernetesObject): this { return this.effect({ tag: "apply", val: JSON.stringify(object) }); }
  create(object: KubernetesObject): this { return this.effect({ tag: "create", val: JSON.stringify(object) }); }
  delete(val: Delete): this { return this.effect({ tag: "delete", val }); }
  evict(val: Evict): this { return this.effect({ tag: "evict", val }); }

  /** Adds an Event. Send one per transition, not one per call. */
  event(reason: string, message: string, severity: Event["severity"] = "normal"): this {
    return this.effect({ tag: "event", val: { severity, reason, message } });
  }

  /** Of a release: it needs further calls, when something changes and after these milliseconds. */
  unfinished(reason: string, message: string, recheckAfter?: number): this {
    this.waits = { failure: { reason, message }, recheckAfter };
    return this;
  }
}

export type Progress = "processing" | "failed" | "succeeded";

/** How far a target is. */
export class ProgressReport extends Answer {
  recheck?: number;

  private constructor(target: Target, readonly progress: Progress, readonly failure?: Failure) { super(target); }

  static succeeded(target: Target): ProgressReport { return new ProgressReport(target, "succeeded"); }
  static failed(target: Target, reason: string, message: string): ProgressReport {
    return new ProgressReport(target, "failed", { reason, message });
  }
  /** The target has not finished: what it waits for. */
  static processing(target: Target, reason: string, message: string): ProgressReport {
    return new ProgressReport(target, "processing", { reason, message });
  }

  /** Requests another call after these milliseconds, even if nothing changed in the cluster. */
  recheckAfter(milliseconds: number): this { this.recheck = milliseconds; return this; }
}

/** Why an answer can't be given. Any other error that an action throws is tried again, as `UncaughtError`. */
export class ActionError extends Error {
  private constructor(readonly failure: Failure, readonly fate: "retry" | "terminal", readonly after?: number) {
    super(failure.message);
  }

  /** A later attempt may succeed: the host calls again with backoff, or after these milliseconds. */
  static retry(reason: string, message: string, after?: number): ActionError {
    return new ActionError({ reason, message }, "retry", after);
  }

  /** No later attempt can succeed: the target is Failed. */
  static terminal(reason: string, message: string): ActionError {
    return new ActionError({ reason, message }, "terminal");
  }
}

/** Why the cluster could not be read. An action that does not catch it is called again. */
export class ReadError extends Error {
  constructor(readonly kind: "not-declared" | "not-served" | "bad-selector" | "too-much", readonly detail: string) {
    super(`the cluster can't be read: ${kind}: ${detail}`);
  }
}

/** The host's own stores: the pod of the target, and the kinds that `setup` watches, in the job's namespace. */
export interface Cluster {
  get(object: ObjectReference): KubernetesObject | undefined;
  find(apiVersion: string, kind: string, labelSelector: string): KubernetesObject[];
  findPods(labelSelector: string): Pod[];
  /** The state of the OperationJob with this uid. */
  findJob(uid: string): "absent" | "active" | "finished";
}

type Level = "debug" | "info" | "warn" | "error";
let write = (level: Level, message: string): void => console.log(`${level}: ${message}`);

/** Lines for the host's log; tests print them. There is no `console` in a component. */
export const log = {
  debug: (message: string): void => write("debug", message),
  info: (message: string): void => write("info", message),
  warn: (message: string): void => write("warn", message),
  error: (message: string): void => write("error", message),
};

/** A value as it crosses the boundary: pairs instead of maps, null instead of nothing, 64 bits perhaps as a bigint. */
export type Wire<T> = T extends Attributes ? [string, string][]
  : T extends number ? number | bigint
  : T extends string | boolean | undefined ? T
  : T extends (infer Item)[] ? Wire<Item>[]
  : { [Key in keyof T]: Wire<T[Key]> | (undefined extends T[Key] ? null : never) };

function lifted(value: unknown): any {
  if (value === null) return undefined;
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(lifted);
  if (typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, lifted(field)]));
}

/** What the component imports, as `wit/action.wit` has it. */
export interface Imports {
  cluster: {
    get(object: ObjectReference): string | null | undefined;
    find(apiVersion: string, kind: string, labelSelector: string): string[];
    findPods(labelSelector: string): Wire<PodFields>[];
    findJob(uid: string): ReturnType<Cluster["findJob"]>;
  };
  log: { log(level: Level, message: string): void };
}

function reading<T>(read: () => T): T {
  try {
    return read();
  } catch (error: any) {
    throw error?.payload ? new ReadError(error.payload.tag, error.payload.val) : error;
  }
}

function clusterOf({ cluster }: Imports): Cluster {
  return {
    get(object) {
      const found = reading(() => cluster.get(object));
      return found == null ? undefined : JSON.parse(found);
    },
    find: (...kind) => reading(() => cluster.find(...kind)).map((object) => JSON.parse(object)),
    findPods: (labelSelector) => reading(() => cluster.findPods(labelSelector)).map((pod) => new Pod(pod)),
    findJob: (uid) => reading(() => cluster.findJob(uid)),
  };
}

const NO_FIELDS: Schema = { type: "object", properties: {}, additionalProperties: false };

function mapping(mapping: Mapping) {
  if (typeof mapping === "string") return { tag: mapping };
  const [[name, val]] = Object.entries(mapping) as [[string, string]];
  return { tag: name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`), val };
}

function watch({ apiVersion, kind, labelSelector = "", fields = [], wakes = [], ...flags }: Watch) {
  const { optional = false, clusterScoped = false } = flags;
  return { apiVersion, kind, labelSelector, fields, mappings: wakes.map(mapping), optional, clusterScoped, extra: [] };
}

type WireTarget = ConstructorParameters<typeof Target>[0];
type WireJob = Wire<JobFields> & { settings: string; parameters: string };

function retry(reason: string, message: string, after?: number) {
  return { tag: "retry", val: [{ reason, message }, after] };
}

/** The four functions of the contract, for `component.ts`. */
export function handlerOf<Settings, Parameters>(action: Action<Settings, Parameters>, imports: Imports) {
  write = (level, message) => imports.log.log(level, message);
  const cluster = clusterOf(imports);
  const call = <T>(job: WireJob, answer: (job: Job<Settings, Parameters>) => T): T => {
    try {
      const [settings, parameters] = [JSON.parse(job.settings), JSON.parse(job.parameters)];
      return answer({ ...lifted(job), settings, parameters });
    } catch (error: any) {
      if (error instanceof ActionError) {
        const { failure, fate, after } = error;
        throw fate === "retry" ? retry(failure.reason, failure.message, after) : { tag: fate, val: failure };
      }
      if (error instanceof ReadError) throw retry("ReadFailed", error.message);
      log.error(`${error}\n${error?.stack}`);
      throw retry("UncaughtError", `${error}`);
    }
  };
  const operation = ({ extraInfo, waits, ...rest }: Operation) =>
    ({ ...rest, limit: rest.limit, extraInfo: [...extraInfo], unfinished: waits, extra: [] });
  return {
    setup(text: string) {
      const { settings = NO_FIELDS, parameters = NO_FIELDS } = action;
      try {
        const registration = action.setup?.(JSON.parse(text)) ?? {};
        const { watches = [], jobLabel, removesPods = false, supportsDryRun = false } = registration;
        return {
          watches: watches.map(watch),
          settingsSchema: JSON.stringify(settings),
          parametersSchema: JSON.stringify(parameters),
          jobLabel,
          traits: { removesPods, supportsDryRun },
          extra: [],
        };
      } catch (error: any) {
        throw error?.message ?? `${error}`;
      }
    },
    operateTarget: (target: WireTarget, job: WireJob) =>
      call(job, (job) => operation(action.operateTarget(new Target(target), job, cluster))),
    getOpsProgress: (target: WireTarget, job: WireJob) =>
      call(job, (job) => {
        const { progress, failure, extraInfo, recheck } = action.getOpsProgress(new Target(target), job, cluster);
        return { progress, failure, extraInfo: [...extraInfo], recheckAfter: recheck, extra: [] };
      }),
    releaseTarget: (wire: WireTarget, job: WireJob) =>
      call(job, (job) => {
        const target = new Target(wire);
        return operation(action.releaseTarget?.(target, job, cluster) ?? Operation.of(target));
      }),
  };
}
