"""Measuring and learning strung together: one video's stages, and the commands made of them."""
