"""New objects with some of the frames of a stored one, PS3.4 Y.3."""
