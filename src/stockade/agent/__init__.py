"""The agent of one host: what is found here goes up, what shall be enforced comes down and into the kernel."""
