"""How questions become calls: when to send, how many, to how many workers, with whose money."""
