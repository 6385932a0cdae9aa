"""Writing what a run found: the folder, tracks, the record of the run."""
