"""What commands share: exit codes, options, loading, and text on a terminal."""
