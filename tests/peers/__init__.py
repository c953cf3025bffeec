"""What tests talk to: gateways as processes, and servers that misbehave on purpose.

No test stands here.
"""
