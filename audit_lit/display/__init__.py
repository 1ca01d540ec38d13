"""Text that leaves for a person: on a terminal, in a report, in a notebook."""
