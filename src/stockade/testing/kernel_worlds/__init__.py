"""Random worlds on the real kernel."""
