/**
 * The action: it annotates the target's pod with a key from its settings, and a value from the parameters of the job or
 * else from its settings. The commands are in `README.md`.
 */
import { type Action, type Job, Operation, ProgressReport } from "./operon.js";

/** `spec.settings` of the ActionPlugin: the annotation, unless the job says another value. */
interface Settings { key?: string; value?: string }

/** What a job may say in `spec.parameters`. */
interface Parameters { value?: string }

const text = { type: "string", minLength: 1 };

/** The annotation that this job sets. */
function annotation({ settings, parameters }: Job<Settings, Parameters>): [key: string, value: string] {
  return [settings.key ?? "example.com/annotate-ts", parameters.value ?? settings.value ?? "true"];
}

export const action: Action<Settings, Parameters> = {
  settings: { type: "object", properties: { key: text, value: text }, additionalProperties: false },
  parameters: { type: "object", properties: { value: { type: "string" } }, additionalProperties: false },

  operateTarget(target, job) {
    const pod = target.existingPod();
    const [key, value] = annotation(job);
    const operation = Operation.of(target);
    return pod.annotations.get(key) === value ? operation : operation.patch(pod.edit().setAnnotation(key, value));
  },

  getOpsProgress(target, job) {
    const pod = target.existingPod();
    const [key, value] = annotation(job);
    if (pod.annotations.get(key) === value) return ProgressReport.succeeded(target);
    return ProgressReport.processing(target, "NotAnnotated", `the annotation ${JSON.stringify(key)} is not there yet`);
  },
};
