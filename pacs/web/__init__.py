"""HTTP: the REST API, probes and metrics, on klein, in the server's reactor."""
