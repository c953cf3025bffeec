{{/* Names, labels and images; nothing else is defined here. */}}

{{- define "mailrelay.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "mailrelay.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains (include "mailrelay.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "mailrelay.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Names of cluster-scoped objects include the namespace, so that two releases of the same name do not collide. */}}
{{- define "mailrelay.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "mailrelay.fullname" .) }}
{{- end }}

{{- define "mailrelay.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "mailrelay.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: with serviceAccount.create=false, name the ServiceAccount that the operator shall use" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "mailrelay.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mailrelay.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "mailrelay.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "mailrelay.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: mailrelay
{{- end }}

{{/* `dict "image" IMAGE "default" TAG` -> REPOSITORY@DIGEST or REPOSITORY:TAG */}}
{{- define "mailrelay.image" -}}
{{- if .image.digest -}}
{{ printf "%s@%s" .image.repository .image.digest }}
{{- else -}}
{{ printf "%s:%s" .image.repository (default .default .image.tag) }}
{{- end }}
{{- end }}

{{/* `[{name: a}, {name: b}]` -> a,b */}}
{{- define "mailrelay.namesOf" -}}
{{- $names := list }}
{{- range . }}{{ $names = append $names .name }}{{ end }}
{{- join "," $names }}
{{- end }}

{{/* The ConfigMap with the CAs of all relays, for Prometheus. */}}
{{- define "mailrelay.authoritiesName" -}}
{{- include "mailrelay.fullname" . }}-relay-cas
{{- end }}
