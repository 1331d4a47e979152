"""
What the host calls: the four functions of the contract over the action. `componentize-py` makes the package `wit_world`
from `wit/` when it builds the component, so tests import `action.py`. This file stays as it is.
"""

import json
import sys
import time
import traceback
from typing import Any, Callable

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import cluster as wit_cluster
from wit_world.imports import log as wit_log
from wit_world.imports import types as wit

import operon
from action import action


def no_clock(*_: Any) -> Any:
    """A component has no clock. To read it would end the call with a trap, which names no line of the source."""
    raise RuntimeError("a component has no clock: use job.now")


for function in ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"):
    setattr(time, function, no_clock)


def write_log(level: str, message: str) -> None:
    wit_log.log(wit_log.Level[level.upper()], message)


operon.Log.write = staticmethod(write_log)


# A component has no standard output. Each call ends with a flush, so that no line waits for its end.
sys.stdout = sys.stderr = operon.Printed()


def word(value: Any) -> str:
    """The name of an enum's value, as `wit/action.wit` spells it."""
    return value.name.lower().replace("_", "-")


def lifted_pod(pod: wit.Pod) -> operon.Pod:
    containers = [
        operon.Container(**vars(container) | {"kind": word(container.kind), "phase": word(container.phase)})
        for container in pod.containers
    ]
    owners = [operon.OwnerReference(**vars(owner)) for owner in pod.owners]
    conditions = [operon.Condition(**vars(condition)) for condition in pod.conditions]
    attributes = {"labels": dict(pod.labels), "annotations": dict(pod.annotations)}
    lists = {"containers": containers, "owners": owners, "conditions": conditions}
    return operon.Pod(**vars(pod) | attributes | lists)


def without_extra(record: Any) -> dict[str, Any]:
    """The fields of a record, but for what a later version adds."""
    return {name: value for name, value in vars(record).items() if name != "extra"}


def lifted_target(target: wit.Target) -> operon.Target:
    fields = without_extra(target)
    fields["extra_info"] = dict(target.extra_info)
    if target.pod is not None:
        fields["pod"] = lifted_pod(target.pod)
    if target.last_failure is not None:
        fields["last_failure"] = operon.Failure(**vars(target.last_failure))
    return operon.Target(**fields)


def lifted_job(job: wit.Job) -> operon.Job:
    texts = {"settings": json.loads(job.settings), "parameters": json.loads(job.parameters)}
    return operon.Job(**without_extra(job) | texts)


def reference(object: operon.ObjectReference) -> wit.ObjectReference:
    return wit.ObjectReference(**vars(object))


def failure(failure: operon.Failure | None) -> wit.Failure | None:
    return failure and wit.Failure(**vars(failure))


def effect(effect: operon.Effect) -> wit.Effect:
    match effect:
        case operon.Patch():
            values = {"kind": wit.PatchKind[effect.kind.upper()], "body": json.dumps(effect.body)}
            return wit.Effect_Patch(wit.Patch(**vars(effect) | values | {"object": reference(effect.object)}))
        case operon.Apply():
            return wit.Effect_Apply(json.dumps(effect.object))
        case operon.Create():
            return wit.Effect_Create(json.dumps(effect.object))
        case operon.Delete():
            return wit.Effect_Delete(wit.Delete(**vars(effect) | {"object": reference(effect.object)}))
        case operon.Evict():
            return wit.Effect_Evict(wit.Evict(**vars(effect)))
        case operon.Event():
            severity = wit.Severity[effect.severity.upper()]
            return wit.Effect_Event(wit.Event(severity, effect.reason, effect.message))
    raise TypeError(f"{effect!r} is not an effect")


def operation(operation: operon.Operation) -> wit.Operation:
    requirements = [
        wit.Requirement(reference(requirement.object), requirement.uid, requirement.resource_version)
        for requirement in operation.requirements
    ]
    limit = operation.limit and wit.PodLimit(*operation.limit)
    unfinished = operation.waits and wit.Unfinished(failure(operation.waits[0]), operation.waits[1])
    effects = [effect(each) for each in operation.effects]
    return wit.Operation(requirements, limit, effects, list(operation.extra_info.items()), unfinished, [])


def progress_report(report: operon.ProgressReport) -> wit.ProgressReport:
    progress = wit.Progress[report.progress.upper()]
    extra_info = list(report.extra_info.items())
    return wit.ProgressReport(progress, failure(report.failure), extra_info, report.recheck, [])


def mapping(mapping: operon.Mapping) -> wit.Mapping:
    name, *values = (mapping,) if isinstance(mapping, str) else mapping
    variant = "".join(part.capitalize() for part in name.split("-"))
    return getattr(wit, f"Mapping_{variant}")(*values)


def watch(watch: operon.Watch) -> wit.Watch:
    fields = {name: value for name, value in vars(watch).items() if name != "wakes"}
    fields["fields"] = list(watch.fields)
    return wit.Watch(**fields, mappings=[mapping(each) for each in watch.wakes], extra=[])


def reading(read: Callable[..., Any], *arguments: Any) -> Any:
    """A read of the cluster. The variant of its error is a class such as `ReadError_NotServed`."""
    try:
        return read(*arguments)
    except Err as error:
        name = type(error.value).__name__.removeprefix("ReadError_")
        kind = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
        raise operon.ReadError(kind.removeprefix("-"), error.value.value) from None


class Cluster:
    def get(self, object: operon.ObjectReference) -> operon.KubernetesObject | None:
        found = reading(wit_cluster.get, reference(object))
        return None if found is None else json.loads(found)

    def find(self, api_version: str, kind: str, label_selector: str) -> list[operon.KubernetesObject]:
        return [json.loads(object) for object in reading(wit_cluster.find, api_version, kind, label_selector)]

    def find_pods(self, label_selector: str) -> list[operon.Pod]:
        return [lifted_pod(pod) for pod in reading(wit_cluster.find_pods, label_selector)]

    def find_job(self, uid: str) -> Any:
        return word(reading(wit_cluster.find_job, uid))


def place(error: BaseException) -> str:
    """Where an exception was raised. `traceback` would read files for more, and a component has none."""
    frames = traceback.walk_tb(error.__traceback__)
    return "\n".join(f"  {frame.f_code.co_filename.rpartition('/')[2]}:{line} in {frame.f_code.co_name}" for frame, line in frames)


def retry(reason: str, message: str, after: int | None = None) -> Err:
    return Err(wit.ActionError_Retry((wit.Failure(reason, message), after)))


def answer(call: Callable[..., Any], target: wit.Target, job: wit.Job) -> Any:
    """The answer of one function of the action; its exceptions are errors of the contract."""
    try:
        return call(lifted_target(target), lifted_job(job), Cluster())
    except operon.ActionError as error:
        if error.fate == "terminal":
            raise Err(wit.ActionError_Terminal(failure(error.failure))) from None
        raise retry(error.failure.reason, error.failure.message, error.after) from None
    except operon.ReadError as error:
        raise retry("ReadFailed", str(error)) from None
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        operon.log.error(f"{text}\n{place(error)}")
        raise retry("UncaughtError", text) from None
    finally:
        sys.stdout.flush()


class Handler(exports.Handler):
    def setup(self, settings: str) -> wit.Registration:
        try:
            registration = action.setup(json.loads(settings))
            traits = wit.Traits(0)
            if registration.removes_pods:
                traits |= wit.Traits.REMOVES_PODS
            if registration.supports_dry_run:
                traits |= wit.Traits.SUPPORTS_DRY_RUN
            watches = [watch(each) for each in registration.watches]
            schemas = json.dumps(action.settings), json.dumps(action.parameters)
            return wit.Registration(watches, *schemas, registration.job_label, traits, [])
        except Exception as error:
            raise Err(f"{type(error).__name__}: {error}") from None
        finally:
            sys.stdout.flush()

    def operate_target(self, target: wit.Target, job: wit.Job) -> wit.Operation:
        return answer(lambda *of: operation(action.operate_target(*of)), target, job)

    def get_ops_progress(self, target: wit.Target, job: wit.Job) -> wit.ProgressReport:
        return answer(lambda *of: progress_report(action.get_ops_progress(*of)), target, job)

    def release_target(self, target: wit.Target, job: wit.Job) -> wit.Operation:
        return answer(lambda *of: operation(action.release_target(*of)), target, job)
