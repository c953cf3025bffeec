"""What the operator costs and withstands at length, on a real API server: `make scale`."""
