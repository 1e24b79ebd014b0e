"""The index: what the archive knows about its objects, in SQLite."""
