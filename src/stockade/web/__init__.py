"""The web console: pages over the same functions as the API, served by the controller's process on the loopback."""
