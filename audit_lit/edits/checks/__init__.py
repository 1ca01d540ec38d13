"""Compare an edit with its controls, and check whether a finding is a cause."""
