"""The embedded queue store: one SQLite database and a folder of large bodies, of one gateway."""
