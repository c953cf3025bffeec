"""The contract between control plane and data plane: the documents that the operator writes, their
files, the gateway's status, and the parsing of user-provided PEM. Pure.
"""
