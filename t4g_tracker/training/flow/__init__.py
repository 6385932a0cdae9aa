"""Training RAFT: objective and data."""
