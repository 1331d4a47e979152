{{/*
A built-in action: the account that it acts as, that account's rights, and the ActionPlugin that joins them
with the component in the host's image. Called with a dict: root (the chart's context), name (the key in `actions`
and the name of the ActionPlugin), action (what spec.action of a job selects), rules (RBAC, as YAML; none: the
account has no rights), finalizers (those that the action may add and remove; none by default).
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
