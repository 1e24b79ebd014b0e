"""The index's schema through time, for Alembic."""
