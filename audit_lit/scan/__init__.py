"""Audits of many dialogs: questions from a recipe, scored beside neutral twins, written down as they are answered."""
