"""What Django finds when the package is installed as an app."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.test.signals import setting_changed


class GoModelConfig(AppConfig):
    """Registers the system check, and makes the gateway follow settings that a test overrides."""

    name = "gomodel_asgi.contrib.django"
    label = "gomodel"
    verbose_name = "gomodel_asgi"

    def ready(self) -> None:
        """Registers the check and the signal; see `AppConfig.ready`."""
        from .checks import check_settings
        from .configuration import forget

        checks.register(check_settings, "gomodel")
        setting_changed.connect(forget)
