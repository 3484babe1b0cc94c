"""Integrations with frameworks, each an extra of its own and imported on its own."""
