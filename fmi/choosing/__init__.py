"""Which of several channels to take: what each costs, by model and by measurement."""
