"""Models: our Protocols, implemented as plainly as can be, to compare the real parts with."""
