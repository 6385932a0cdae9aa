"""Annotated data sets, one format a file; ``choice.py`` is the interface."""
