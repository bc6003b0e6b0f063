{{/* The settings as environment variables: unmanagedGrace becomes ENVIRONMENT_OPERATOR_UNMANAGED_GRACE. Empty ones are left out. */}}
{{- define "environment-operator.settings" -}}
{{- range $name, $value := .Values.settings }}
{{- $text := toString $value }}
{{- if eq $name "runKinds" }}
{{- $kinds := list }}
{{- range $value }}
{{- $kinds = append $kinds (printf "%s/%s" .apiVersion .kind) }}
{{- end }}
{{- $text = join "," $kinds }}
{{- else if kindIs "slice" $value }}
{{- $text = join "," $value }}
{{- else if kindIs "float64" $value }}
{{- $text = int64 $value | toString }}
{{- end }}
{{- if $text }}
- name: ENVIRONMENT_OPERATOR_{{ $name | snakecase | upper }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The name of the Secret with the database's credentials. */}}
{{- define "environment-operator.databaseSecretName" -}}
{{- if .Values.postgresql.embedded.enabled }}
{{- include "environment-operator.postgresqlName" . }}
{{- else }}
{{- .Values.database.secretName }}
{{- end }}
{{- end }}

{{/*
How the database is reached, as environment variables; takes a dict of root and secretName. Credentials are handed over by libpq's
own variables, for a password inside a URL would have to be escaped.
*/}}
{{- define "environment-operator.database" -}}
{{- $secret := .secretName }}
{{- with .root.Values.database }}
{{- if and .host (not $.root.Values.postgresql.embedded.enabled) }}
- name: DATABASE_URL
  value: {{ printf "postgres://%s:%d/%s" (include "environment-operator.bracketed" .host) (int64 .port) .name | quote }}
- name: PGUSER
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ .usernameKey }}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ .passwordKey }}
{{- else }}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ .urlKey }}
{{- end }}
{{- with .tls }}
{{- if .mode }}
- name: PGSSLMODE
  value: {{ .mode }}
{{- end }}
{{- if .secretName }}
{{- if .caKey }}
- name: PGSSLROOTCERT
  value: /etc/environment-operator/database/{{ .caKey }}
{{- end }}
{{- if .certificateKey }}
- name: PGSSLCERT
  value: /etc/environment-operator/database/{{ .certificateKey }}
- name: PGSSLKEY
  value: /etc/environment-operator/database/{{ .privateKeyKey }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
