"""Many clips in one command: resumable, on several processes or machines, ending in tables."""
