"""containerd: containers and pods, as it tells them over its Unix socket."""
