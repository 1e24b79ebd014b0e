"""Worker processes: what takes long, or may go wrong in a library of others, happens in them, with limits."""
