"""Lists what is stored."""
