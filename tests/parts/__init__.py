"""Real servers for the tests, each a process on a free port of this machine: no root, no Docker."""
