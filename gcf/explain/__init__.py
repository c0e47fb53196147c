"""Backbone and head together, on videos."""
