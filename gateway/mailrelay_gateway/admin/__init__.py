"""The admin port (8025): metrics, probes, status. Reads from the other parts of the gateway."""
