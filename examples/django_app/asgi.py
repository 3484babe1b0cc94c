from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from gomodel_asgi import GoModelMiddleware
from gomodel_asgi.contrib.django import DjangoAuth, get_gateway

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_app.settings")
django = get_asgi_application()
application = DjangoAuth(GoModelMiddleware(django, gateway=get_gateway()))
