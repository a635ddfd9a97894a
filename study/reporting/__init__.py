"""From what is remembered of studies to one page and its tables: rows, statistics, figures, tables, page."""
