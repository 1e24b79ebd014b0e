"""The archive: objects on disk, their index, and the ways in and out. It knows neither DIMSE nor HTTP."""
