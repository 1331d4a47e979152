{{/*
A built-in action: the account that it acts as, that account's rights, and the ActionPlugin that joins them
with the component in the host's image. Called with a dict: root (the chart's context), name (the key in `actions`
and the name of the ActionPlugin, after that of the shard), action (what spec.action of a job selects), rules (RBAC, as YAML; none: the
account has no rights), finalizers (those that the action may add and remove; none by default), dangerous (true:
Kubernetes' role `edit` does not include its use).
*/}}
{{- define "operon.action" -}}
{{- $root := .root }}
{{- $values := index $root.Values.actions .name -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: action-{{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "operon.labels" $root | nindent 4 }}
    app.kubernetes.io/component: action
    operon.dev/action-account: "true"
automountServiceAccountToken: false
{{- if .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "operon.fullname" $root }}-action-{{ .name }}
  labels:
    {{- include "operon.labels" $root | nindent 4 }}
    app.kubernetes.io/component: action
rules:
  {{- .rules | nindent 2 }}
{{- $role := printf "%s-action-%s" (include "operon.fullname" $root) .name }}
{{- include "operon.binding" (dict "root" $root "role" $role "account" (printf "action-%s" .name) "component" "action") }}
{{- end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ include "operon.fullname" $root }}-use-{{ .name }}
  labels:
    {{- include "operon.labels" $root | nindent 4 }}
    app.kubernetes.io/component: use
    {{- if and $root.Values.admissionPolicy.aggregateToEdit (not .dangerous) }}
    rbac.authorization.k8s.io/aggregate-to-edit: "true"
    rbac.authorization.k8s.io/aggregate-to-admin: "true"
    {{- end }}
rules:
  # Start targets of OperationJobs with the action {{ .action }}.
  - apiGroups: [operon.dev]
    resources: [actionplugins]
    resourceNames: [{{ lower .action }}]
    verbs: [use]
---
apiVersion: operon.dev/v1alpha1
kind: ActionPlugin
metadata:
  name: {{ with $root.Values.shard }}{{ . }}-{{ end }}{{ .name }}
  labels:
    {{- include "operon.labels" $root | nindent 4 }}
    app.kubernetes.io/component: action
    {{- with $root.Values.shard }}
    operon.dev/shard: {{ . | quote }}
    {{- end }}
spec:
  action: {{ .action }}
  source:
    builtin:
      name: {{ .name }}
  serviceAccountName: action-{{ .name }}
  {{- if $values.enablePodOpsLifecycle }}
  enablePodOpsLifecycle: true
  {{- end }}
  {{- with .finalizers }}
  finalizers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.settings }}
  settings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.limits }}
  limits:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
