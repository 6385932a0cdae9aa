"""A page of results from their folders: pictures, generated videos, and failures found by rule."""
