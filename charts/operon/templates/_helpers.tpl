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

{{/* The user of a pod with the host's image. Together with operon.containerSecurityContext it passes the Pod Security Standard
`restricted`. A number from a file of values is a float. */}}
{{- define "operon.podSecurityContext" -}}
runAsNonRoot: true
{{- with .Values.runAsUser }}
runAsUser: {{ int64 . }}
{{- end }}
{{- with .Values.runAsGroup }}
runAsGroup: {{ int64 . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "operon.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* The release that a CRD of the cluster belongs to, as namespace/name; "" if to none. */}}
{{- define "operon.owner" -}}
{{- with (.metadata).annotations -}}
{{- with index . "meta.helm.sh/release-name" }}{{ index $.metadata.annotations "meta.helm.sh/release-namespace" }}/{{ . }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Whose signatures every component needs, and the trust root by which identities are verified, as annotations of the
host's pods; "" if there is nothing of it. There, and not in a ConfigMap: who may write the ConfigMaps of components must
not choose them. The values of an older release, which --reuse-values keeps, may lack them. */}}
{{- define "operon.verification" -}}
{{- $verification := .Values.verification | default dict -}}
{{- if $verification.required -}}
{{- if not (or $verification.keys $verification.identities) }}{{ fail "verification.required is true, but verification.keys and verification.identities are empty, so no component could be loaded: set verification.keys to the public keys (PEM) of the signers, or verification.identities" }}{{ end -}}
{{- if and $verification.identities (not $verification.trustedRoot) }}{{ fail "verification.identities needs a trust root, by which the host verifies identities: set verification.trustedRoot to a Sigstore trusted_root.json (--set-file verification.trustedRoot=trusted_root.json)" }}{{ end -}}
{{- range $index, $key := $verification.keys }}
operon.dev/signature-key-{{ $index }}: {{ $key | quote }}
{{- end }}
{{- with $verification.identities }}
operon.dev/signature-identities: {{ toJson . | quote }}
{{- end }}
{{- end -}}
{{- with $verification.trustedRoot }}
operon.dev/trusted-root: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Binds a ClusterRole with rights to namespaced kinds to a ServiceAccount of the operator's namespace: in all namespaces,
or in each of watchNamespaces. Called with a dict: root (the chart's context), role (its name, and the binding's), account,
component (a label, or ""). */}}
{{- define "operon.binding" -}}
{{- $binding := . -}}
{{- range $namespace := .root.Values.watchNamespaces | default (list "") }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if $namespace }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
metadata:
  {{- /* Another name than that of the binding which the operator's own namespace has. */}}
  name: {{ $binding.role }}{{ if $namespace }}-served{{ end }}
  {{- with $namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  labels:
    {{- include "operon.labels" $binding.root | nindent 4 }}
    {{- with $binding.component }}
    app.kubernetes.io/component: {{ . }}
    {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $binding.role }}
subjects:
  - kind: ServiceAccount
    name: {{ $binding.account }}
    namespace: {{ $binding.root.Release.Namespace }}
{{- end }}
{{- end -}}

{{/* Fails if this release can't run beside another one of the cluster: both would operate the same objects, or load the same
ActionPlugins. What a release serves is written on the ClusterRoleBinding of its host, see rbac.yaml. */}}
{{- define "operon.beside" -}}
{{- $root := . -}}
{{- $own := printf "%s/%s" .Release.Namespace .Release.Name -}}
{{- $wanted := .Values.watchNamespaces | default list -}}
{{- range (lookup "rbac.authorization.k8s.io/v1" "ClusterRoleBinding" "" "").items | default list }}
{{- $annotations := .metadata.annotations | default dict }}
{{- $owner := include "operon.owner" . }}
{{- if and (hasKey $annotations "operon.dev/watch-namespaces") (ne $owner $own) }}
{{- $served := index $annotations "operon.dev/watch-namespaces" }}
{{- if or (not $served) (not $wanted) }}
{{- $one := ternary $owner $own (not $served) }}
{{- fail (printf "release %s serves all namespaces, so no other release can serve some of them beside it: set watchNamespaces of both (the other is %s)" $one (ternary $own $owner (not $served))) }}
{{- end }}
{{- range splitList "," $served }}
{{- if has . $wanted }}
{{- fail (printf "watchNamespaces has %q, which release %s serves already: two releases would operate the same objects" . $owner) }}
{{- end }}
{{- end }}
{{- if eq (index $annotations "operon.dev/shard" | default "") ($root.Values.shard | default "") }}
{{- fail (printf "release %s has the same shard, %q, so both would load the same ActionPlugins: set shard to another name" $owner ($root.Values.shard | default "")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where KusionStack is installed, if it is. The values of an older release, which --reuse-values keeps, may lack it. */}}
{{- define "operon.kusionStackNamespace" -}}
{{ .Values.kusionStackNamespace | default "kusionstack-system" }}
{{- end -}}
