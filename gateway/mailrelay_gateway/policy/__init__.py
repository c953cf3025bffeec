"""Who may send what, and how fast: plain functions over facts. Pure: no I/O, no clock."""
