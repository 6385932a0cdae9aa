"""Synthetic clips with exact tracks and flow, for training, tests and the bundled example."""
