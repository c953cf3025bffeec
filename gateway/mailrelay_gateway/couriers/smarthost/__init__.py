"""The courier of smarthosts, with a pool of connections for each."""
