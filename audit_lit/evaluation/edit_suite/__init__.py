"""The suite ``edits``: what edits reach, against what they cost."""
