"""ASYNC: what turns events into reconciles. Imports neither kopf nor kubernetes; decisions are made
in plan/."""
