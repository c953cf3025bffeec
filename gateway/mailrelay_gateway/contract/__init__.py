"""What control plane and data plane have in common: how what people give us is read. The documents
themselves are still in config.py.
"""
