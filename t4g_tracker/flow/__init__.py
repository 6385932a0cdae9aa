"""Optical flow by DIS or RAFT; ``estimator.py`` holds the interface."""
