"""The mathematics of matching, shared by tracking, adaptation and training."""
