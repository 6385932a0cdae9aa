"""From features to tracks: matching, paths, sub-pixel refinement, visibility."""
