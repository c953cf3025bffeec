"""ASYNC: turns events into reconciliations. Imports neither kopf nor kubernetes; plan/ makes the
decisions."""
