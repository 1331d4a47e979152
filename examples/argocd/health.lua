-- The health of Operon's objects for Argo CD; docs/gitops.md says how to install it. One script for every kind that
-- has conditions: OperationJob, JobFlow, DaemonJob, ReactiveJob, CollaSet, PodTransitionRule, ActionPlugin.

-- Nothing happens until a user, or a queue, lets the object go on.
local suspended = {JobSuspended = true, Paused = true, Suspended = true, WaitingForPartition = true}

local function health(status, message)
  return {status = status, message = message}
end

-- KusionStack's controllers run it: they write the fields of the status, and no conditions.
local function run_by_kusionstack(spec, status)
  if status.progress == "Succeeded" then
    return health("Healthy", "KusionStack's controller: Succeeded")
  end
  if status.progress == "Failed" then
    return health("Degraded", "KusionStack's controller: Failed")
  end
  local available = status.updatedAvailableReplicas
  if available ~= nil and available >= (spec.replicas or 0) then
    return health("Healthy", "KusionStack's controller: all pods are available")
  end
  return health("Progressing", "KusionStack's controllers run it")
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "it is being deleted")
end

local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return health("Progressing", "its controller has not seen its last change yet")
end

local is_true = {}
local ready = nil
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
  end
  if condition.status == "True" then
    is_true[condition.type] = condition
  end
end

if is_true.StandingDown ~= nil then
  return run_by_kusionstack(obj.spec or {}, status)
end
if is_true.Stalled ~= nil then
  return health("Degraded", is_true.Stalled.message)
end
if is_true.Reconciling ~= nil then
  if suspended[is_true.Reconciling.reason] then
    return health("Suspended", is_true.Reconciling.message)
  end
  return health("Progressing", is_true.Reconciling.message)
end
if is_true.Ready ~= nil then
  return health("Healthy", is_true.Ready.message)
end
return health("Progressing", ready and ready.message or "its controller has not reported on it yet")
