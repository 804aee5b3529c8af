"""Pure rules: no I/O, no framework; time and randomness are arguments."""
