"""What decides where a tracker has to become better: figures, candidates, pictures of the worst tracks."""
