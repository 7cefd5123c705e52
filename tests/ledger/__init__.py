"""The ledger, alone and shared by many dispatchers."""
