"""Side-by-side benchmarks against other DICOM servers; `python -m bench`."""
