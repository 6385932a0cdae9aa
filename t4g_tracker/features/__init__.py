"""Frozen features of a video, one file for each extractor; ``extractor.py`` holds the interface."""
