"""The data plane: accepts mail, decides, stores, relays.

Nothing in it may know of Kubernetes or import the operator.
"""

__version__ = "0.1.0"
