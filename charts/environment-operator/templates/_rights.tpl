{{/*
The least that the operator needs on what lies in namespaces. Namespaces themselves are read by a rule of the templates that
include this.
*/}}
{{- define "environment-operator.rules" -}}
# Create: a company's default Local. Delete: duplicates of it that the operator made itself.
- apiGroups: [paperclip.ing]
  resources: [environments]
  verbs: [get, list, watch, create, delete]
# Delete: a lease whose time after its end is over. A lease is never made, nor changed but for its status.
- apiGroups: [paperclip.ing]
  resources: [environmentleases]
  verbs: [get, list, watch, delete]
# Report is no verb of the API server's: the admission policy for status asks for it.
- apiGroups: [paperclip.ing]
  resources: [environments/status, environmentleases/status]
  verbs: [patch, report]
{{- range .Values.settings.runKinds }}
- apiGroups: [{{ ternary (splitList "/" .apiVersion | first) "" (contains "/" .apiVersion) | quote }}]
  resources: [{{ .resource }}]
  verbs: [get, list, watch]
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}

{{- define "environment-operator.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "environment-operator.serviceAccountName" . }}
    namespace: {{ .Release.Namespace }}
{{- end }}
