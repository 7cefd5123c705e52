"""What carries frames between ranks: one file per channel, one contract for all."""
