{{/*
The operator's rights in a namespace, verb by verb what engine/ asks of cluster/kube.py; no wildcard anywhere.
Server-side apply needs `patch`, and `create` where the object is not there yet.
*/}}
{{- define "mailrelay.operatorRules" -}}
# The three kinds: read and watched. Their spec and metadata are people's; only the status is ours.
- apiGroups: ["mailrelay.dev"]
  resources: ["mailrelays", "mailsenders", "maildomains"]
  verbs: ["get", "list", "watch"]
- apiGroups: ["mailrelay.dev"]
  resources: ["mailrelays/status", "mailsenders/status", "maildomains/status"]
  verbs: ["patch"]
# By name only, never listed or watched. What may be written, here and below, is fenced by ValidatingAdmissionPolicies.
- apiGroups: [""]
  resources: ["secrets"]
  verbs: ["get", "create", "patch"]
# CA bundles that a MailRelay refers to, by name.
- apiGroups: [""]
  resources: ["configmaps"]
  verbs: ["get"]
# A relay's objects, each by its name. They go by ownerReferences; nothing but a StatefulSet is ever deleted here, and
# that to be made again with larger volumes, its pods left running.
- apiGroups: [""]
  resources: ["services", "serviceaccounts"]
  verbs: ["get", "create", "patch"]
- apiGroups: ["policy"]
  resources: ["poddisruptionbudgets"]
  verbs: ["get", "create", "patch"]
- apiGroups: ["networking.k8s.io"]
  resources: ["networkpolicies"]
  verbs: ["get", "create", "patch"]
- apiGroups: ["apps"]
  resources: ["statefulsets"]
  verbs: ["get", "list", "watch", "create", "patch", "delete"]
# Made by the StatefulSet, and grown here; never deleted, since mail may lie in them.
- apiGroups: [""]
  resources: ["persistentvolumeclaims"]
  verbs: ["get", "patch"]
# Never made here: they are asked for their status, and annotated with the configuration's digest.
- apiGroups: [""]
  resources: ["pods"]
  verbs: ["list", "watch", "patch"]
# What happened, where a condition changed.
- apiGroups: ["events.k8s.io"]
  resources: ["events"]
  verbs: ["create"]
{{- end }}
