"""What an upstream's replies mean: one table of rules, and how a rule is found. Pure."""
