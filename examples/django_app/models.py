from __future__ import annotations

from django.conf import settings
from django.db import models


class Plan(models.Model):
    """What a user has paid for."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    model = models.CharField(max_length=64)
    budget = models.DecimalField(max_digits=8, decimal_places=2, default=5)
    """US dollars for each month."""
