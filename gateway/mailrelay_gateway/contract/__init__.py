"""What control plane and data plane have in common: the documents that the operator writes, how
they lie on disk, what a gateway answers, and how what people give us is read. Pure.
"""
