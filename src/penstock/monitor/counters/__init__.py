"""What a worker counts, in memory that other processes read: its layout, its writer and its sums."""
