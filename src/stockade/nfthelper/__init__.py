"""The program that holds libnftables, and nothing else. It runs as a process of its own and is never imported."""
