"""Whole parts run on a virtual clock, with every chance taken from one seed."""
