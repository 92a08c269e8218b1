"""Read-only queries behind the API, the admin, commands and pages, so that all of them show the same.

The API, the admin, commands and pages call it. It may import maintenance and all that this may."""
