"""Compare an edit with its controls, and check whether the trait that a finding describes is a cause."""
