"""The commands of ``t4g``, each in a file of its own with its arguments."""
