from __future__ import annotations

from collections.abc import Iterator

from django_app.models import Plan
from gomodel_asgi import Denied, RoutingRequest, Target, policies
from gomodel_asgi.quotas import Quota, Quotas


def route(request: RoutingRequest) -> Target:
    """A plain function may use the ORM as any view does: it runs in a thread, with connections of Django's keeping."""
    plan = Plan.objects.filter(user=request.user).first()
    if plan is None:
        raise Denied("Your account has no plan yet.")
    return Target("openai", model=plan.model)


def rules(request: RoutingRequest) -> Iterator[Quota]:
    """What a user may use. Asked behind the policy, so that everybody here is somebody with a plan."""
    yield Quota("month", per="month", money=Plan.objects.get(user=request.user).budget)
    yield Quota("minute", per="minute", requests=60)


policy = policies.authenticated(route)
quotas = Quotas(rules)  # with several workers: counters=RedisCounters(...)
