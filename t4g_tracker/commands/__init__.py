"""The commands of ``t4g``, one file each with its arguments."""
