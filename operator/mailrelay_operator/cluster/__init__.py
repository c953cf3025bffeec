"""What we need of a cluster: port.py says it in our own words, kube.py is the only importer of the
Kubernetes client."""
