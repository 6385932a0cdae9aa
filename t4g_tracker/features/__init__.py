"""Frozen features of a video, one extractor a file; ``extractor.py`` is the interface."""
