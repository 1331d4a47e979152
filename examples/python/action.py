"""
The action: it annotates the target's pod with a key from its settings, and a value from the parameters of the job or else
from its settings. The commands are in `README.md`.
"""

from operon import Action, Cluster, Job, Operation, ProgressReport, Target

TEXT = {"type": "string", "minLength": 1}


def annotation(job: Job) -> tuple[str, str]:
    """The annotation that this job sets."""
    settings, parameters = job.settings, job.parameters
    value = parameters.get("value", settings.get("value", "true"))
    return settings.get("key", "example.com/annotate-py"), value


class AddAnnotation(Action):
    settings = {"type": "object", "properties": {"key": TEXT, "value": TEXT}, "additionalProperties": False}
    parameters = {"type": "object", "properties": {"value": {"type": "string"}}, "additionalProperties": False}

    def operate_target(self, target: Target, job: Job, cluster: Cluster) -> Operation:
        pod = target.existing_pod()
        key, value = annotation(job)
        operation = Operation(target)
        return operation if pod.annotations.get(key) == value else operation.patch(pod.edit().set_annotation(key, value))

    def get_ops_progress(self, target: Target, job: Job, cluster: Cluster) -> ProgressReport:
        pod = target.existing_pod()
        key, value = annotation(job)
        if pod.annotations.get(key) == value:
            return ProgressReport.succeeded(target)
        return ProgressReport.processing(target, "NotAnnotated", f'the annotation "{key}" is not there yet')


action = AddAnnotation()
