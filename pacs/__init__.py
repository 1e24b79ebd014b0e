"""Production PACS: a DICOM archive on Twisted."""
