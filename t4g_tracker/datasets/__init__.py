"""Annotated data sets, one file for each format; ``choice.py`` holds the interface."""
