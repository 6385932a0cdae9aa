"""The user study: which of two generated videos people prefer, and what their answers come to."""
