"""Training Track4Gen: objective, data, validation, and the model folder that it writes."""
