"""What the server does as a user of others' services: sending objects."""
