"""
What an action is written with: the shapes of `wit/action.wit` as an action sees them, and builders for its answers. It
depends on no package. The action is in `action.py`, the glue to the host in `component.py`; this file stays as it is, and
a newer `operon plugin new` writes a newer one. Times are seconds since the Unix epoch.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

Attributes = dict[str, str]
Schema = dict[str, Any]
KubernetesObject = dict[str, Any]
"""An object of Kubernetes, as the API server has it."""

NO_FIELDS: Schema = {"type": "object", "properties": {}, "additionalProperties": False}


class Action(ABC):
    """What an OperationJob does to one pod. All functions may be called again at any time, in any state of the cluster."""

    settings: Schema = NO_FIELDS
    """JSON Schema of `spec.settings` of the ActionPlugin."""
    parameters: Schema = NO_FIELDS
    """JSON Schema of `spec.parameters` of a job."""

    def setup(self, settings: dict[str, Any]) -> Registration:
        """Called when the component is loaded, before the host checks the settings. By default nothing is watched."""
        return Registration()

    @abstractmethod
    def operate_target(self, target: Target, job: Job, cluster: Cluster) -> Operation:
        """What to do with the target now; called until the target has finished."""

    @abstractmethod
    def get_ops_progress(self, target: Target, job: Job, cluster: Cluster) -> ProgressReport:
        """How far the target is."""

    def release_target(self, target: Target, job: Job, cluster: Cluster) -> Operation:
        """What to undo of a target that failed or was cancelled. By default nothing."""
        return Operation(target)


Mapping = (
    tuple[Literal["label", "extra-info", "uid-in-label", "uid-in-extra-info"], str] | Literal["namespace", "node"]
)
"""The targets that a changed object concerns: each is explained in `wit/action.wit`. `("label", "app")`, `"node"`"""


@dataclass
class Watch:
    """A kind that the action reads."""

    api_version: str
    kind: str
    label_selector: str = ""
    """Only objects with these labels."""
    fields: Sequence[str] = ()
    """The top-level fields to read besides `metadata`; the host keeps no others. Empty: all."""
    wakes: Sequence[Mapping] = ()
    """The targets that a changed object wakes: `mappings` of the contract."""
    optional: bool = False
    """The API server may not serve the kind: reads then raise a `ReadError`."""
    cluster_scoped: bool = False
    """The kind has no namespaces; only nodes can be read so."""


@dataclass
class Registration:
    """
    What an action reads, and what it is: its `traits`. The schemas of the contract, `settings_schema` and
    `parameters_schema`, are those of the `Action`.
    """

    watches: Sequence[Watch] = ()
    job_label: str | None = None
    """The label by which the action marks a pod that it must finish or release; its value is the job's uid."""
    removes_pods: bool = False
    """The action removes the pods of its targets."""
    supports_dry_run: bool = False
    """The first operation of a target says all that the action will do."""


@dataclass(frozen=True)
class ObjectReference:
    api_version: str
    kind: str
    name: str


@dataclass(frozen=True)
class OwnerReference:
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool
    block_owner_deletion: bool


@dataclass(frozen=True)
class Requirement:
    """An object that must exist when an operation is performed."""

    object: ObjectReference
    uid: str
    resource_version: str | None = None


@dataclass(frozen=True)
class Failure:
    reason: str
    message: str


@dataclass(frozen=True)
class Condition:
    name: str
    status: str
    reason: str
    message: str
    since: int | None = None


@dataclass(frozen=True)
class Container:
    name: str
    kind: Literal["ordinary", "sidecar", "init", "ephemeral"] = "ordinary"
    image: str = ""
    image_id: str | None = None
    ready: bool = True
    restart_count: int = 0
    phase: Literal["waiting", "running", "terminated"] = "running"
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    container_id: str | None = None


@dataclass(frozen=True)
class Pod:
    """What an action mostly needs of a pod; `cluster.get` has the rest."""

    name: str
    uid: str
    resource_version: str
    generation: int = 0
    observed_generation: int | None = None
    created_at: int = 0
    phase: str = "Running"
    ready: bool = True
    ready_since: int | None = None
    deleting: bool = False
    node: str | None = None
    labels: Attributes = field(default_factory=dict)
    annotations: Attributes = field(default_factory=dict)
    finalizers: list[str] = field(default_factory=list)
    owners: list[OwnerReference] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that controls this pod; at most one does."""
        return next((owner for owner in self.owners if owner.controller), None)

    def edit(self) -> MetadataEdit:
        """Starts a patch of this pod's metadata. It is refused if the pod is another, or has changed, since it was read."""
        return MetadataEdit(self)

    def delete(self) -> Delete:
        """The deletion of this pod, and of no later one of its name."""
        return Delete(self.reference(), self.uid)

    def evict(self) -> Evict:
        """The eviction of this pod, and of no later one of its name."""
        return Evict(self.name, self.uid)

    def unchanged(self) -> Requirement:
        """Requires that this pod exists, is not being deleted, and has not changed since it was read."""
        return Requirement(self.reference(), self.uid, self.resource_version)

    def reference(self) -> ObjectReference:
        return ObjectReference("v1", "Pod", self.name)


class MetadataEdit:
    """Changes of a pod's metadata, collected into one patch. None removes a label or an annotation."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._metadata: dict[str, Any] = {}

    def set_label(self, key: str, value: str | None) -> Self:
        self._metadata.setdefault("labels", {})[key] = value
        return self

    def set_annotation(self, key: str, value: str | None) -> Self:
        self._metadata.setdefault("annotations", {})[key] = value
        return self

    def remove_finalizer(self, name: str) -> Self:
        present = self._metadata.get("finalizers", self._pod.finalizers)
        self._metadata["finalizers"] = [other for other in present if other != name]
        return self

    def patch(self) -> Patch:
        pod = self._pod
        body = {"metadata": self._metadata}
        return Patch(pod.reference(), body, uid=pod.uid, resource_version=pod.resource_version)


@dataclass(frozen=True)
class Patch:
    object: ObjectReference
    body: Any
    """The patch, as values that `json` knows."""
    kind: Literal["merge", "json", "strategic"] = "merge"
    subresource: str | None = None
    """`status`, `resize`, `ephemeralcontainers`; without it, the object itself."""
    uid: str | None = None
    resource_version: str | None = None


@dataclass(frozen=True)
class Apply:
    """Server-side apply of a whole object."""

    object: KubernetesObject


@dataclass(frozen=True)
class Create:
    object: KubernetesObject


@dataclass(frozen=True)
class Delete:
    object: ObjectReference
    uid: str | None = None
    resource_version: str | None = None
    grace_period_seconds: int | None = None


@dataclass(frozen=True)
class Evict:
    pod: str
    uid: str | None = None
    resource_version: str | None = None
    grace_period_seconds: int | None = None


@dataclass(frozen=True)
class Event:
    """An Event about the target's pod. Send one per transition, not one per call."""

    reason: str
    message: str
    severity: Literal["normal", "warning"] = "normal"


Effect = Patch | Apply | Create | Delete | Evict | Event
"""What the host has to do, in the job's namespace, as the action's ServiceAccount."""


@dataclass(frozen=True)
class Target:
    """One entry of the job's `spec.targets`, with its pod."""

    name: str
    uid: str | None = None
    """The uid of the pod as it was when the target started."""
    containers: list[str] = field(default_factory=list)
    pod: Pod | None = None
    """The pod of this name and uid; none if there is none (any more)."""
    extra_info: Attributes = field(default_factory=dict)
    """What this action recorded for this target."""
    started_at: int | None = None
    deadline: int | None = None
    last_failure: Failure | None = None

    def existing_pod(self) -> Pod:
        """The target's pod; a target without one fails with `PodNotFound`."""
        if self.pod is None:
            raise ActionError.terminal("PodNotFound", f'there is no pod "{self.name}"')
        return self.pod


@dataclass(frozen=True)
class Job:
    """The OperationJob that the call is for."""

    namespace: str
    name: str
    uid: str
    action: str
    ending: bool
    """The target is about to be released."""
    dry_run: bool
    lifecycle: bool
    now: int
    """There is no other clock."""
    settings: dict[str, Any]
    """`spec.settings` of the ActionPlugin, as the schema has them."""
    parameters: dict[str, Any]
    """`spec.parameters` of the job, as the schema has them."""


class _Answer:
    """What all answers have: the target's `extra_info` from now on."""

    def __init__(self, target: Target) -> None:
        self.extra_info: Attributes = dict(target.extra_info)

    def remember(self, key: str, value: str) -> Self:
        """Sets one entry of the target's `extra_info`."""
        self.extra_info[key] = value
        return self

    def forget(self, key: str) -> Self:
        """Removes one entry of the target's `extra_info`."""
        self.extra_info.pop(key, None)
        return self


class Operation(_Answer):
    """What to do, and what to remember. A new one has no effects, and the target's `extra_info` stays as it is."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.effects: list[Effect] = []
        self.requirements: list[Requirement] = []
        self.limit: tuple[str, int] | None = None
        self.waits: tuple[Failure, int | None] | None = None

    def requiring(self, requirement: Requirement) -> Self:
        """Adds an object that must exist when the effects are performed."""
        self.requirements.append(requirement)
        return self

    def limited_to(self, pods: int, label_selector: str) -> Self:
        """The effects are performed only while fewer pods than this match the label selector."""
        self.limit = (label_selector, pods)
        return self

    def effect(self, effect: Effect) -> Self:
        self.effects.append(effect)
        return self

    def patch(self, patch: Patch | MetadataEdit) -> Self:
        return self.effect(patch.patch() if isinstance(patch, MetadataEdit) else patch)

    def apply(self, object: KubernetesObject) -> Self:
        """Server-side apply of a whole object."""
        return self.effect(Apply(object))

    def create(self, object: KubernetesObject) -> Self:
        return self.effect(Create(object))

    def delete(self, delete: Delete) -> Self:
        return self.effect(delete)

    def evict(self, evict: Evict) -> Self:
        return self.effect(evict)

    def event(self, reason: str, message: str, severity: Literal["normal", "warning"] = "normal") -> Self:
        """Adds an Event. Send one per transition, not one per call."""
        return self.effect(Event(reason, message, severity))

    def unfinished(self, reason: str, message: str, recheck_after: int | None = None) -> Self:
        """Of a release: it needs further calls, when something changes and after these milliseconds."""
        self.waits = (Failure(reason, message), recheck_after)
        return self


Progress = Literal["processing", "failed", "succeeded"]


class ProgressReport(_Answer):
    """How far a target is."""

    def __init__(self, target: Target, progress: Progress, failure: Failure | None = None) -> None:
        super().__init__(target)
        self.progress = progress
        self.failure = failure
        self.recheck: int | None = None

    @classmethod
    def succeeded(cls, target: Target) -> Self:
        return cls(target, "succeeded")

    @classmethod
    def failed(cls, target: Target, reason: str, message: str) -> Self:
        return cls(target, "failed", Failure(reason, message))

    @classmethod
    def processing(cls, target: Target, reason: str, message: str) -> Self:
        """The target has not finished: what it waits for."""
        return cls(target, "processing", Failure(reason, message))

    def recheck_after(self, milliseconds: int) -> Self:
        """Requests another call after these milliseconds, even if nothing changed in the cluster."""
        self.recheck = milliseconds
        return self


class ActionError(Exception):
    """Why an answer can't be given. Any other exception of an action is tried again, as `UncaughtError`."""

    def __init__(self, failure: Failure, fate: Literal["retry", "terminal"], after: int | None = None) -> None:
        super().__init__(failure.message)
        self.failure, self.fate, self.after = failure, fate, after

    @classmethod
    def retry(cls, reason: str, message: str, after: int | None = None) -> Self:
        """A later attempt may succeed: the host calls again with backoff, or after these milliseconds."""
        return cls(Failure(reason, message), "retry", after)

    @classmethod
    def terminal(cls, reason: str, message: str) -> Self:
        """No later attempt can succeed: the target is Failed."""
        return cls(Failure(reason, message), "terminal")


class ReadError(Exception):
    """Why the cluster could not be read. An action that does not catch it is called again."""

    def __init__(self, kind: Literal["not-declared", "not-served", "bad-selector", "too-much"], detail: str) -> None:
        super().__init__(f"the cluster can't be read: {kind}: {detail}")
        self.kind, self.detail = kind, detail


class Cluster(Protocol):
    """The host's own stores: the pod of the target, and the kinds that `setup` watches, in the job's namespace."""

    def get(self, object: ObjectReference) -> KubernetesObject | None: ...
    def find(self, api_version: str, kind: str, label_selector: str) -> list[KubernetesObject]: ...
    def find_pods(self, label_selector: str) -> list[Pod]: ...
    def find_job(self, uid: str) -> Literal["absent", "active", "finished"]:
        """The state of the OperationJob with this uid."""


class Log:
    """Lines for the host's log; tests print them. In a component, `print` writes such lines too."""

    write: Callable[[str, str], None] = staticmethod(lambda level, message: print(f"{level}: {message}"))

    def debug(self, message: str) -> None:
        self.write("debug", message)

    def info(self, message: str) -> None:
        self.write("info", message)

    def warn(self, message: str) -> None:
        self.write("warn", message)

    def error(self, message: str) -> None:
        self.write("error", message)


log = Log()


class Printed(io.TextIOBase):
    """The file to which `print` writes in a component: each line is a line of the host's log."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._log(line)
        return len(text)

    def flush(self) -> None:
        line, self._line = self._line, ""
        self._log(line)

    def _log(self, line: str) -> None:
        if line.strip():
            log.info(line)
