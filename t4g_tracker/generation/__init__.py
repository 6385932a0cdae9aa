"""Videos generated from pictures, by several models from the same noise, and tracks of their own features."""
