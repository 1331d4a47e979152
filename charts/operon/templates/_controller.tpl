{{/*
A controller that writes as a ServiceAccount of its own, which the host impersonates: the account, and its
rights. Called with a dict: root (the chart's context), name (of the account), rules (RBAC, as YAML).
*/}}
{{- define "operon.controller" -}}
{{- $root := .root -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "operon.labels" $root | nindent 4 }}
    app.kubernetes.io/component: controller
automountServiceAccountToken: false
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $root.Release.Namespace }}-{{ .name }}
  labels:
    {{- include "operon.labels" $root | nindent 4 }}
    app.kubernetes.io/component: controller
rules:
  {{- .rules | nindent 2 }}
{{- include "operon.binding" (dict "root" $root "role" (printf "%s-%s" $root.Release.Namespace .name) "account" .name "component" "controller") }}
{{- end -}}

{{/* "true" if a controller is enabled, otherwise "". The values of an older release, which --reuse-values keeps, may lack
the controller: it ran there. */}}
{{- define "operon.isEnabled" -}}
{{- if dig .controller "enabled" true .root.Values.controllers -}}true{{- end -}}
{{- end -}}
