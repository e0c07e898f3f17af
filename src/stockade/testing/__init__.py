"""What tests stand on: labs, worlds, honest fakes. Shipped, so that others can test against Stockade."""
