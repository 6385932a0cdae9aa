"""Files that are whole or missing, and checked when read: atomic writing, locks, the cache."""
