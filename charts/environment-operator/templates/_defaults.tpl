{{/*
Puts the chart's own value in wherever one is missing: a null removes a key, and `helm upgrade --reuse-values` knows no key that the
release's chart had not. Every template begins with this, so no other has to think of it.
*/}}
{{- define "environment-operator.defaults" -}}
{{- include "environment-operator.fill" (list .Values (.Files.Get "files/defaults.json" | fromJson)) }}
{{- end }}

{{/* Takes values and defaults. Below some keys stands what Kubernetes defines: there a missing key is meant to be missing. */}}
{{- define "environment-operator.fill" -}}
{{- $values := first . }}
{{- $whole := list "labels" "resources" "podSecurityContext" "securityContext" }}
{{- range $key, $default := last . }}
{{- $value := index $values $key }}
{{- if kindIs "invalid" $value }}
{{- $_ := set $values $key $default }}
{{- else if and (kindIs "map" $default) (not (has $key $whole)) }}
{{- include "environment-operator.fill" (list $value $default) }}
{{- end }}
{{- end }}
{{- end }}
