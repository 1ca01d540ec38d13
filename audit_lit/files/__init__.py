"""Files: documents read strictly, results written whole and over nothing of others."""
