"""The administrators' console: Django's admin with django-unfold, scoped and audited.

How to add a page: CONTRIBUTING.md.
"""
