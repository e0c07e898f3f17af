"""The command line: one module a verb, thin over the API's Unix socket. It decides nothing that the API decides."""
