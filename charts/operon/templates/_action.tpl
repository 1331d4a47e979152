{{/*
A built-in action: the account that it acts as, that account's rights, and the ActionPlugin that joins them
with the component in the host's image. Called with a dict: root (the chart's context), name (the key in `actions`
and the name of the ActionPlugin), action (what spec.action of a job selects), rules (RBAC, as YAML; none: the
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
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ include "operon.fullname" $root }}-action-{{ .name }}
  labels:
    {{- include "operon.labels" $root | nindent 4 }}
    app.kubernetes.io/component: action
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "operon.fullname" $root }}-action-{{ .name }}
subjects:
  - kind: ServiceAccount
    name: action-{{ .name }}
    namespace: {{ $root.Release.Namespace }}
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
  name: {{ .name }}
  labels:
    {{- include "operon.labels" $root | nindent 4 }}
    app.kubernetes.io/component: action
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
