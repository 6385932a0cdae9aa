"""Training models of our own: the loop, Track4Gen, optical flow."""
