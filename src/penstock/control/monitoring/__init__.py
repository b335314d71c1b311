"""What is known of versions' rows: references, verdicts, and what is told of them."""
