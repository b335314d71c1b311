"""A worker's counters in memory that other processes read: layout, writer and totals."""
