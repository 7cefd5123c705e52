"""Functions: what a billed second of a worker gives, and whether the money adds up."""
