"""The training loop that every model here shares."""
