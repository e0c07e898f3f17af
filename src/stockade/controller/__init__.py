"""The controller: the loop around fold → compile → publish, and the HTTP API in front of it. One writer."""
