"""The project as a ASGI application, for uvicorn, daphne and the like."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobqueue_project.settings")

application = get_asgi_application()
