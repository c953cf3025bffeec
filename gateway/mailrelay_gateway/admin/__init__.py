"""The admin port (8025): metrics, probes, status. Reads the other parts, changes none of them."""
