"""Review: estimates that a person looks at before, or after, they are published."""
