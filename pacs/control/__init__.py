"""One process an archive: its lock, and the socket by which operators talk to the server."""
