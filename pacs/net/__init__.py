"""Where the Upper Layer meets Twisted: connections, associations, dispatch."""
