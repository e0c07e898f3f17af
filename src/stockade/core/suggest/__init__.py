"""Observed flows and a snapshot → drafts: what to allow, what was used of what is allowed, what a draft would decide.

Promises that what a suggestion writes reads back to the same rules, that it allows what was learnt from and nothing
that it says it leaves out, and that every number says what it was counted from. Changes nothing: a suggestion is a
draft like any other.
"""
