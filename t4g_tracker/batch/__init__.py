"""Many clips in one command: resumable, in several processes or on several machines, ending in tables."""
