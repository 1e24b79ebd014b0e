"""Data sets in other transfer syntaxes, made by worker processes (PS3.5 annex A)."""
