"""From an event to the five-band stamp that the model takes, or to the reason why there is none."""
