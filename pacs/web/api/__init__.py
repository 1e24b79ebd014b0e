"""The REST API, version 1: a module for each kind of resource, each with its part of the table of routes."""
