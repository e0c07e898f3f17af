"""The HTTP API on a Unix socket: who asks is what the kernel says of the peer, never what the request says."""
