"""The data plane: accepts mail, decides, stores, relays.

It does not depend on Kubernetes and must not import the operator.
"""

__version__ = "0.1.0"
