"""What is to be done and what was done: the worklist and the performed procedure steps, kept in the index."""
