"""Views that start and stop a job."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from dramatiq_abort import abort, wait_for_outcome

from .tasks import resize_pictures


@csrf_exempt  # for the example only: a real form sends a CSRF token
@require_POST
def start(_: HttpRequest) -> JsonResponse:
    return JsonResponse({"id": resize_pictures.send().message_id}, status=202)


@csrf_exempt
@require_POST
def stop(request: HttpRequest, message_id: str) -> JsonResponse:
    abort(message_id, reason="requested on the site", by=request.META["REMOTE_ADDR"])
    outcome = wait_for_outcome(message_id, timeout=5_000)
    return JsonResponse(outcome.asdict(), status=200 if outcome.is_known else 202)
