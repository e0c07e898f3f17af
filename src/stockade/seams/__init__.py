"""What Stockade needs of the outside world, as Protocols. Adapters implement them; ``testing`` has honest fakes."""
