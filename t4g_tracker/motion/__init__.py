"""Motion: points carried along optical flow over several gaps, and the trajectories made of it."""
