"""The service itself: from a source to its sinks, with books that balance."""
