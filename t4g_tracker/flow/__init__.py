"""Optical flow by DIS or RAFT; ``estimator.py`` is the interface."""
