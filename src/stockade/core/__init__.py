"""The pure core: no I/O, no clock, no randomness, no logging.

Time and randomness are arguments; diagnostics are return values.
"""
