"""What matching is made of, shared by tracking, adaptation and training."""
