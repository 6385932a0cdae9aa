"""How alike neighbouring frames of a video are, and how much moves in it; no annotation is needed."""
