"""Synthetic clips with exact tracks and flow, for training, validation and the bundled example."""
