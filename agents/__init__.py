"""The zoo of agents, their training, and their comparison."""
