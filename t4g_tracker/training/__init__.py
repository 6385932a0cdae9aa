"""Training the project's own models: the loop, Track4Gen, optical flow."""
