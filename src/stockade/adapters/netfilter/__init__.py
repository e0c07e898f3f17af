"""The kernel's connection tracking and packet logging, over raw netlink, decoded with ``struct``."""
