"""How the ranks of a group find and connect to each other: rendezvous, relay, mesh."""
