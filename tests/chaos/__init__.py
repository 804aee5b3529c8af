"""Chaos: everything is killed, frozen and lied to while alerts go out; then three books are compared, person by person.

`make chaos` runs it. `plan` is pure; `killer` and `faults` carry the plan out; `people` are who was asked for, `ledgers`
compares what was asked with our database and with what the providers hold.
"""
