"""The URLs of the jobs."""

from django.urls import path
from jobs import views

urlpatterns = [
    path("jobs/", views.start),
    path("jobs/<message_id>/abort/", views.stop),
]
