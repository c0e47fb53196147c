"""Readers of published annotation formats, one module per family; `gcf.data.annotations` chooses among them."""
