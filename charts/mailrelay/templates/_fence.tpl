{{/*
Parts of the admission policies. A label says whose an object is: whoever sets it on an object of his own lends that
object to the operator, and who has the operator's token cannot set it on another's, since the old object must have it.
*/}}

{{- define "mailrelay.policyName" -}}
{{- include "mailrelay.clusterName" . | replace ":" "." }}
{{- end }}

{{/* `dict "root" $ "name" NAME` -> apiVersion to metadata of a policy */}}
{{- define "mailrelay.policyHead" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ include "mailrelay.policyName" .root }}.{{ .name }}
  labels:
    {{- include "mailrelay.labels" .root | nindent 4 }}
{{- end }}

{{/* `dict "root" $ "name" NAME` -> the binding of that policy */}}
{{- define "mailrelay.policyBinding" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ include "mailrelay.policyName" .root }}.{{ .name }}
  labels:
    {{- include "mailrelay.labels" .root | nindent 4 }}
spec:
  policyName: {{ include "mailrelay.policyName" .root }}.{{ .name }}
  validationActions: ["Deny"]
{{- end }}

{{- define "mailrelay.isOperator" -}}
- name: is-the-operator
  expression: >-
    request.userInfo.username == "system:serviceaccount:{{ .Release.Namespace }}:{{ include "mailrelay.serviceAccountName" . }}"
{{- end }}

{{/* The variables that the rules of children use. On DELETE there is no new object. */}}
{{- define "mailrelay.childVariables" -}}
- name: wasOurs
  expression: >-
    oldObject == null || oldObject.metadata.?labels[?"app.kubernetes.io/managed-by"].orValue("") == "mailrelay"
- name: isOurs
  expression: >-
    object == null || (object.metadata.?labels[?"app.kubernetes.io/managed-by"].orValue("") == "mailrelay" &&
    object.metadata.?ownerReferences.orValue([]).exists(o, o.apiVersion.startsWith("mailrelay.dev/") && o.?controller.orValue(false)))
- name: relay
  expression: >-
    object == null ? "" : object.metadata.?labels[?"mailrelay.dev/relay"].orValue("")
- name: finalizers
  expression: >-
    object == null ? [] : object.metadata.?finalizers.orValue([])
- name: oldFinalizers
  expression: >-
    oldObject == null ? [] : oldObject.metadata.?finalizers.orValue([])
{{- end }}

{{/* The rules for every child: only mailrelay's own objects, which stay its own. */}}
{{- define "mailrelay.childRules" -}}
- expression: variables.wasOurs
  message: the mailrelay operator may change only objects labelled app.kubernetes.io/managed-by=mailrelay
  reason: Forbidden
- expression: variables.isOurs
  message: the mailrelay operator may write only objects labelled app.kubernetes.io/managed-by=mailrelay and owned by a MailRelay or MailSender
  reason: Forbidden
- expression: object == null || variables.finalizers == variables.oldFinalizers
  message: the mailrelay operator may not set finalizers
  reason: Forbidden
{{- end }}

{{/* A rule that a map of labels selects the gateway's pods of this relay and no others; the argument is its expression. */}}
{{- define "mailrelay.selectsGateways" -}}
{{ . }}[?"app.kubernetes.io/name"].orValue("") == "mailrelay" &&
{{ . }}[?"app.kubernetes.io/component"].orValue("") == "gateway" &&
{{ . }}[?"mailrelay.dev/relay"].orValue("") == variables.relay && variables.relay != ""
{{- end }}
