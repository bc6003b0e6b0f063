{{- define "environment-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* A DNS label, for a Service is called so, and short enough for the suffixes that some objects add. */}}
{{- define "environment-operator.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else }}
{{- $name := include "environment-operator.name" . }}
{{- $release := replace "." "-" .Release.Name }}
{{- if contains $name $release }}
{{- $release | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" $release $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* A StatefulSet's name and a hash become a label of its Pods, which 63 characters are the limit of. */}}
{{- define "environment-operator.postgresqlName" -}}
{{- include "environment-operator.fullname" . | trunc 41 | trimSuffix "-" }}-postgresql
{{- end }}

{{- define "environment-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "environment-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* An image's name with the registry that a parent chart has set in place of its own; takes a dict of root and name. */}}
{{- define "environment-operator.mirrored" -}}
{{- $name := .name }}
{{- with .root.Values.global.imageRegistry }}
{{- $name = printf "%s/%s" . (regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $name "") }}
{{- end }}
{{- $name }}
{{- end }}

{{- define "environment-operator.image" -}}
{{- $repository := include "environment-operator.mirrored" (dict "root" . "name" .Values.image.repository) }}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" $repository .digest }}
{{- else }}
{{- printf "%s:%s" $repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What is the same for all Pods of one component. */}}
{{- define "environment-operator.selectorLabels" -}}
{{- include "environment-operator.componentLabels" (dict "root" . "component" "operator") }}
{{- end }}

{{- define "environment-operator.postgresqlSelectorLabels" -}}
{{- include "environment-operator.componentLabels" (dict "root" . "component" "postgresql") }}
{{- end }}

{{- define "environment-operator.componentLabels" -}}
app.kubernetes.io/name: {{ include "environment-operator.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The labels of the chart's objects; commonLabels give way to them. */}}
{{- define "environment-operator.labels" -}}
app.kubernetes.io/name: {{ include "environment-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
Labels and annotations of an object; takes a dict of root and, where it has any, of labels and annotations of its own, as maps. One
key stands once: the object's own goes before the chart's, and that before a common one.
*/}}
{{- define "environment-operator.marks" -}}
{{- $labels := include "environment-operator.labels" .root | fromYaml }}
{{- $labels = merge (dict) (default dict .labels) $labels .root.Values.commonLabels -}}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The same for Pods, which are found by the labels of their component; takes component, labels and annotations. */}}
{{- define "environment-operator.podMarks" -}}
{{- $own := include "environment-operator.componentLabels" . | fromYaml }}
{{- $labels := merge (dict) $own (default dict .labels) .root.Values.commonLabels -}}
labels:
  {{- toYaml $labels | nindent 2 }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
