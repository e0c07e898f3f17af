"""The birth gate: one static C program, built at set-up."""
