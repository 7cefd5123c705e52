"""What control costs, and what it saves: caps, batches, poison, stragglers, replays, nights."""
