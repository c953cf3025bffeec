"""Makes a Plan from facts: objects to apply and create, status, Events, annotations, and when to
reconcile again. Pure.
"""
