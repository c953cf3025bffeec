"""Classifies an upstream's replies: one table of rules, and its lookup. Pure."""
