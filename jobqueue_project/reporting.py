"""Error reports, as pages of DEBUG and as mails to ADMINS: they list settings and environment, so they hide secrets."""

from __future__ import annotations

import re

from django.views.debug import SafeExceptionReporterFilter


class HideUrls(SafeExceptionReporterFilter):
    """Hides the URLs that carry passwords too, not only what is called a password."""

    hidden_settings = re.compile(
        f"{SafeExceptionReporterFilter.hidden_settings.pattern}|(REDIS|DATABASE|EMAIL)_URL", re.IGNORECASE
    )
