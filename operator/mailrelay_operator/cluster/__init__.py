"""Access to a cluster: port.py defines the interface, kube.py is the only importer of the
Kubernetes client."""
