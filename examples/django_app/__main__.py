"""Prepares the database, with a user `ada` (password `lovelace`) on a plan and a user `bob` (`dylan`) on none; serves.

PORT chooses another port than 8000.
"""

from __future__ import annotations

import os

import uvicorn
from django.core.management import call_command

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "django_app.settings")

from django_app.asgi import application


def prepare() -> None:
    """Make tables and users where there are none."""
    from django.contrib.auth import get_user_model

    from django_app.models import Plan

    call_command("migrate", run_syncdb=True, verbosity=0)
    users = get_user_model().objects
    if not users.exists():
        users.create_user("bob", password="dylan")
        Plan.objects.create(user=users.create_user("ada", password="lovelace"), model="gpt-5")


prepare()
uvicorn.run(application, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
