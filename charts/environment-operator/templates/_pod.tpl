{{/* What all Pods of the operator's image have in common: the Deployment's, the migration's, the test's. */}}
{{- define "environment-operator.pod" -}}
{{- include "environment-operator.imagePullSecrets" . }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $certificates := .Values.database.tls.secretName }}
{{- if or $certificates .Values.extraVolumes }}
volumes:
  {{- with $certificates }}
  - name: database-certificates
    secret:
      secretName: {{ . }}
      defaultMode: 288 # 0440 in decimal, which every reader of YAML understands alike
  {{- end }}
  {{- with .Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Each of them is a name, or an object that holds one. */}}
{{- define "environment-operator.imagePullSecrets" -}}
{{- with concat .Values.imagePullSecrets .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ if kindIs "map" . }}{{ .name }}{{ else }}{{ . }}{{ end }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What all containers of the operator's image have in common; takes a dict of root and secretName. */}}
{{- define "environment-operator.container" -}}
image: {{ include "environment-operator.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
# Its last words, where it gives up, stand in the Pod's status.
terminationMessagePolicy: FallbackToLogsOnError
env:
  {{- include "environment-operator.variables" . | trim | nindent 2 }}
  {{- with .root.Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .root.Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
resources:
  {{- toYaml .root.Values.resources | nindent 2 }}
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
{{- if or .root.Values.database.tls.secretName .root.Values.extraVolumeMounts }}
volumeMounts:
  {{- if .root.Values.database.tls.secretName }}
  - name: database-certificates
    mountPath: /etc/environment-operator/database
    readOnly: true
  {{- end }}
  {{- with .root.Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* The variables that the chart sets; takes a dict of root and secretName. */}}
{{- define "environment-operator.variables" -}}
{{- include "environment-operator.database" . }}
{{- with .root.Values.listenAddress }}
- name: ENVIRONMENT_OPERATOR_LISTEN
  value: {{ printf "%s:8080" (include "environment-operator.bracketed" .) | quote }}
{{- end }}
{{- include "environment-operator.settings" .root }}
{{- end }}

{{/* An address as it stands before a port. */}}
{{- define "environment-operator.bracketed" -}}
{{- if contains ":" . }}[{{ . }}]{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* How the replicas are spread: softly over hosts and zones where nothing is asked for. */}}
{{- define "environment-operator.spread" -}}
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "environment-operator.selectorLabels" . | fromYaml)) }}
{{- $soft := dict "maxSkew" 1 "whenUnsatisfiable" "ScheduleAnyway" }}
{{- $hosts := merge (dict "topologyKey" "kubernetes.io/hostname") $soft }}
{{- $zones := merge (dict "topologyKey" "topology.kubernetes.io/zone") $soft }}
{{- range default (list $hosts $zones) .Values.topologySpreadConstraints }}
- {{ hasKey . "labelSelector" | ternary . (merge (dict) . $selector) | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}
