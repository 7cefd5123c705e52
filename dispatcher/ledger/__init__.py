"""The ledger: what is spent, what may be spent, and who holds how much of it."""
