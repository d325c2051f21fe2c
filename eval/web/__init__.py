"""The annotator in the browser."""
