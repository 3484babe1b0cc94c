from __future__ import annotations

from django_app.models import Plan
from gomodel_asgi import Denied, RoutingRequest, Target, policies


def route(request: RoutingRequest) -> Target:
    """A plain function may use the ORM as any view does: it runs in a thread, with connections of Django's keeping."""
    plan = Plan.objects.filter(user=request.user).first()
    if plan is None:
        raise Denied("Your account has no plan yet.")
    return Target("openai", model=plan.model)


policy = policies.authenticated(route)
