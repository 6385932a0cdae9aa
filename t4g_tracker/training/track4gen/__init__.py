"""Training Track4Gen: objective, data, validation."""
