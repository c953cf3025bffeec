"""The courier of smarthosts: a pool of connections for each."""
