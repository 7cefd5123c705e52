"""Message passing between the functions of one group: ranks, channels, collectives."""
