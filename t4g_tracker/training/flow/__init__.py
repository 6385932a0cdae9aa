"""Training RAFT: objective, data, settings."""
