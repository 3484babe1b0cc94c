from __future__ import annotations

from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.urls import path, re_path

from gomodel_asgi.contrib.django import view


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"Hello {request.user.get_username() or 'stranger'}.")


urlpatterns = [
    path("", home),
    path("login/", LoginView.as_view()),
    # The same API once more, as a view: behind all of Django's middlewares. No `login_required`, which would send API
    # clients to a login page: the policy refuses strangers with 401.
    re_path(r"^inside/v1/(?:responses|conversations|models)(?:/.*)?$", view),
]
