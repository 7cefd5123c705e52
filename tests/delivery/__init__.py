"""Random nights: whatever breaks in them, the sinks hold what an undisturbed night gives."""
