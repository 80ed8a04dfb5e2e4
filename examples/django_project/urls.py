"""Where the jobs are to be found."""

from django.urls import path
from jobs import views

urlpatterns = [
    path("jobs/", views.start),
    path("jobs/<message_id>/abort/", views.stop),
]
