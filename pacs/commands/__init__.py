"""The commands of `pacsctl`, one a module."""
