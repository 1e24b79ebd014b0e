"""Data sets as bytes, PS3.5: scanning, character sets, file heads, and a codec for short ones."""
