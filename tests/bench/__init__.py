"""The benchmark: `make bench`. Not a test: it asserts nothing, it measures."""
