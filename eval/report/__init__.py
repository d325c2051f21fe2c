"""`python -m eval.report`: tables, curves and one page from folders of results."""
