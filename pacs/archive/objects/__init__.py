"""Objects as files: their names and their durability."""
