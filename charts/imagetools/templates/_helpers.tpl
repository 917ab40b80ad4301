{{- define "imagetools.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "imagetools.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "imagetools.labels" -}}
{{ include "imagetools.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "imagetools.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* The value of a setting as text: Helm reads every number as a fraction, and prints large ones with an exponent. */}}
{{- define "imagetools.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{- define "imagetools.topic" -}}
{{ .root.Values.settings.TOPIC_PREFIX | default "" }}{{ .name }}
{{- end }}

{{- define "imagetools.podSecurity" -}}
runAsNonRoot: true
# the user of the image; what it writes to belongs to its group
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "imagetools.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Secrets are named, never copied. */}}
{{- define "imagetools.secretEnv" -}}
{{- range $name, $from := .Values.secretSettings }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $from.name }}
      key: {{ $from.key }}
{{- end }}
{{- end }}

{{/* A shard of another number is another StatefulSet with snapshots of its own. */}}
{{- define "imagetools.searchName" -}}
{{ if eq (int .shards) 1 }}search{{ else }}search-{{ .index }}-of-{{ .shards }}{{ end }}
{{- end }}

{{/* The names of all StatefulSets, after the release's, in one line. */}}
{{- define "imagetools.processes" -}}
encoder matcher grouping
{{- range $index := until (int .Values.search.shards) }} {{ include "imagetools.searchName" (dict "index" $index "shards" $.Values.search.shards) }}{{ end }}
{{- if .Values.bridge.enabled }} bridge{{ end }}
{{- end }}
