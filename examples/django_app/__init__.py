"""A Django project: `request.user` comes from its session, the policy is a plain function on the ORM.

cd examples && python -m django_app
"""
