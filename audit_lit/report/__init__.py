"""Renderings of an audit's report: HTML, Markdown and JUnit XML."""
