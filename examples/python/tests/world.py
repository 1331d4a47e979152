"""
A small cluster in memory, for tests without a host: what an action reads of it, and what its operations do to it. It
performs merge patches of metadata, deletions and evictions; add what else your action does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from operon import (
    Action, ActionError, Attributes, Delete, Effect, Evict, Failure, Job, KubernetesObject, ObjectReference, Patch, Pod,
    Progress, Target,
)


@dataclass
class Outcome:
    """What became of a target: its progress, or why there is none."""

    progress: Progress
    reason: str | None = None
    message: str | None = None


@dataclass
class World:
    settings: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    objects: list[KubernetesObject] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    extra_info: dict[str, Attributes] = field(default_factory=dict)
    """What the host remembers, by target."""
    now: int = 1_000_000

    def add_pod(self, name: str, **fields: Any) -> None:
        given = {"uid": f"uid-of-{name}", "resource_version": "1", "created_at": self.now} | fields
        self.pods[name] = Pod(name, **given)

    # What an action reads: `operon.Cluster`.

    def get(self, object: ObjectReference) -> KubernetesObject | None:
        found = self.find(object.api_version, object.kind, "")
        return next((each for each in found if each["metadata"]["name"] == object.name), None)

    def find(self, api_version: str, kind: str, label_selector: str) -> list[KubernetesObject]:
        return [each for each in self.objects if (each["apiVersion"], each["kind"]) == (api_version, kind)]

    def find_pods(self, label_selector: str) -> list[Pod]:
        return list(self.pods.values())

    def find_job(self, uid: str) -> Literal["absent", "active", "finished"]:
        return "active"

    def reconcile(self, action: Action, name: str) -> Outcome:
        """One reconcile of one target: operate it, perform the effects, read the progress."""

        def call() -> Outcome:
            operation = action.operate_target(self._target(name), self._job(), self)
            self._perform(name, operation.extra_info, operation.effects)
            report = action.get_ops_progress(self._target(name), self._job(), self)
            self._perform(name, report.extra_info, [])
            return self._outcome(report.progress, report.failure)

        return self._answer(call)

    def release(self, action: Action, name: str) -> Outcome:
        """The release of one target."""

        def call() -> Outcome:
            operation = action.release_target(self._target(name), self._job(ending=True), self)
            self._perform(name, operation.extra_info, operation.effects)
            return self._outcome("failed", operation.waits[0] if operation.waits else None)

        return self._answer(call)

    def _answer(self, call: Callable[[], Outcome]) -> Outcome:
        try:
            return call()
        except ActionError as error:
            return self._outcome("failed" if error.fate == "terminal" else "processing", error.failure)

    def _outcome(self, progress: Progress, failure: Failure | None) -> Outcome:
        return Outcome(progress, failure.reason, failure.message) if failure else Outcome(progress)

    def _target(self, name: str) -> Target:
        pod = self.pods.get(name)
        containers = [container.name for container in pod.containers] if pod else []
        uid = pod.uid if pod else None
        return Target(name, uid, containers, pod, self.extra_info.get(name, {}), started_at=self.now)

    def _job(self, ending: bool = False) -> Job:
        flags = {"ending": ending, "dry_run": False, "lifecycle": False}
        values = {"now": self.now, "settings": self.settings, "parameters": self.parameters}
        return Job("default", "test", "uid-of-test", "AnnotatePy", **flags, **values)

    def _perform(self, name: str, extra_info: Attributes, effects: list[Effect]) -> None:
        self.extra_info[name] = extra_info
        for effect in effects:
            self.effects.append(effect)
            match effect:
                case Evict():
                    self.pods.pop(effect.pod, None)
                case Delete():
                    self.pods.pop(effect.object.name, None)
                case Patch(kind="merge") if effect.object.name in self.pods:
                    self._merge(self.pods[effect.object.name], effect.body.get("metadata", {}))

    def _merge(self, pod: Pod, metadata: dict[str, Any]) -> None:
        def merged(present: Attributes, changes: dict[str, str | None]) -> Attributes:
            return {key: value for key, value in (present | changes).items() if value is not None}

        self.pods[pod.name] = replace(
            pod,
            resource_version=str(int(pod.resource_version) + 1),
            labels=merged(pod.labels, metadata.get("labels", {})),
            annotations=merged(pod.annotations, metadata.get("annotations", {})),
        )
