"""Builders of Kubernetes objects, one module per noun; each is named after what it returns. Pure.

They build whole objects for server-side apply from their arguments, and decide nothing.
"""
