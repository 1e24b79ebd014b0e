"""One module per Service Class of PS3.4."""
