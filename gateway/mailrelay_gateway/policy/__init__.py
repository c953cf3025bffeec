"""Who may send what, and how fast: functions of facts. Pure: no I/O, no clock."""
