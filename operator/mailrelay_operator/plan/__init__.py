"""Facts become a Plan: objects to apply and create, status, events, annotations, and when to
look again. Pure.
"""
