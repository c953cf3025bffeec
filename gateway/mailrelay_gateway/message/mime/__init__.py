"""MIME (RFC 2045 to 2049): a message's parts, and what they become for a server that takes 7-bit
mail only. Pure.
"""
