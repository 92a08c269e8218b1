"""The REST API for machines; docs/api.md. Needs djangorestframework and django-filter."""
