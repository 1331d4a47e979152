{{/* The name of what the release has one of: the release's name, with the chart's where that says more. */}}
{{- define "operon.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "operon.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (include "operon.fullname" .) }}
{{- end -}}

{{/* What the host's pods, and no others, have. Never changes: a Deployment's selector can't. */}}
{{- define "operon.selectorLabels" -}}
app.kubernetes.io/name: operon
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: host
{{- end -}}

{{/* What every object has. */}}
{{- define "operon.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: operon
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: operon
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "operon.image" -}}
{{- if .Values.image.digest -}}
{{ printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}
{{- end -}}

{{/* The release that a CRD of the cluster belongs to, as namespace/name; "" if to none. */}}
{{- define "operon.owner" -}}
{{- with (.metadata).annotations -}}
{{- with index . "meta.helm.sh/release-name" }}{{ index $.metadata.annotations "meta.helm.sh/release-namespace" }}/{{ . }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* The keys that every component must be signed by, as annotations of the host's pods; "" if none is required. There,
and not in a ConfigMap: who may write the ConfigMaps of components must not choose the keys. The values of an older
release, which --reuse-values keeps, do not have `verification`. */}}
{{- define "operon.signatureKeys" -}}
{{- $verification := .Values.verification | default dict -}}
{{- if $verification.required -}}
{{- if not $verification.keys }}{{ fail "verification.required is true, but verification.keys is empty, so no component could be loaded: set verification.keys to the public keys (PEM) of the signers" }}{{ end -}}
{{- range $index, $key := $verification.keys }}
operon.dev/signature-key-{{ $index }}: {{ $key | quote }}
{{- end }}
{{- end -}}
{{- end -}}
