"""Whose code an exception may not cut, by name: modules as a whole, functions of any module, functions of one.

A module as a whole is for what is short, whatever it does. Where a module's functions also wait for long, or call the
task's own code, only those are listed that must be whole: a task could not be aborted otherwise. Each entry has its
reason, which the documentation repeats. A test holds each against the module that it names.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ANY", "CUT_IN", "PROTECTED_FUNCTIONS", "PROTECTED_IN", "PROTECTED_MODULES"]

_SWALLOWED: Final = "an abort itself: Sentry drops any exception that is raised in its own code"

#: Modules with their reasons. A package stands for all its modules.
PROTECTED_MODULES: Final = {
    "_frozen_importlib": "the locks of modules: a module that is half imported stays in sys.modules",
    "_frozen_importlib_external": "the same",
    "_threading_local": "the lock of each local()",
    "_weakrefset": "the guard of iterations, which holds back removals",
    "asyncio": "an event loop, which drops what comes up in a callback or in a task that is not awaited",
    "bdb": "a debugger that somebody is using: its own books, and the answer to a question it has asked",
    "concurrent.futures": "the conditions of futures, the queues and counters of executors",
    "coverage": "the books of what has run, which monitoring calls keep from 3.12 on",
    "dramatiq.asyncio": "a coroutine that has been submitted and is not yet cancelled when its waiter is interrupted",
    "dramatiq_abort._worker.loops": "an event loop on the message's own thread: what it runs is cancelled instead",
    "importlib": "see _frozen_importlib, which bears this name once it has been imported",
    "logging": "the module's lock and each handler's, before 3.13 with acquire() and release()",
    "multiprocessing": "locks, semaphores and conditions around pipes, which are half written otherwise",
    "pdb": "see bdb",
    "queue": "Python's conditions around one mutex",
    "sentry_sdk.client": _SWALLOWED,
    "sentry_sdk.scope": _SWALLOWED,
    "sentry_sdk.scrubber": _SWALLOWED,
    "sentry_sdk.tracing": _SWALLOWED,
    "sentry_sdk.transport": _SWALLOWED,
    "threading": "Python's __enter__ and __exit__ around every lock but Lock and RLock",
    "trio": "its scheduler: an exception in there ends the run, and the thread cannot run trio again",
    "warnings": "the lock around the filters, from 3.14 on",
    "weakref": "see _weakrefset",
}

#: Functions that are never left half done, whoever wrote them: they are where everybody puts what must happen, or what
#: takes that which must be given back. With them context managers are safe, those of contextlib included, and in an
#: ``ExitStack``.
PROTECTED_FUNCTIONS: Final = frozenset({"__enter__", "__exit__", "__del__", "enter_context", "unraisablehook"})


def _all(names: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


_PLACE: Final = "a pool that has lost a connection, or has one too many"
_REPLY: Final = "a reply that is not read, and then taken for that of the next command; a pool's connection"
_FRAMES: Final = "a frame that is half sent or half read: the server drops what follows on the channel"
_ENQUEUE: Final = "a message that is half sent, and the after_enqueue hooks that go with before_enqueue"
_COUNTER: Final = "a counter that has changed although the caller does not know it"
_STORE: Final = "a result that is deleted and not stored"
_CAUGHT: Final = "an abort itself: the function catches every exception and goes on"

#: Functions with their reasons, by the module that they are defined in and by the name of their code.
PROTECTED_IN: Final[dict[str, dict[str, str]]] = {
    # What a task does with dramatiq. Actor.__call__ is not among it: it calls another actor's function.
    "dramatiq.actor": _all("send send_with_options", _ENQUEUE),
    "dramatiq.broker": _all("declare_actor add_middleware emit_before emit_after", "hooks, which come in pairs"),
    "dramatiq.brokers.rabbitmq": _all("enqueue declare_queue", _ENQUEUE),
    "dramatiq.brokers.redis": _all("enqueue declare_queue", _ENQUEUE),
    "dramatiq.brokers.stub": _all("enqueue declare_queue", _ENQUEUE),
    "dramatiq.composition": _all("run", "a group that is sent in part: its completion callbacks never run"),
    "dramatiq.rate_limits.backends.memcached": _all("add incr decr incr_and_sum", _COUNTER),
    "dramatiq.rate_limits.backends.redis": _all("add incr decr incr_and_sum wait_notify", _COUNTER),
    "dramatiq.rate_limits.backends.stub": _all("add incr decr incr_and_sum wait_notify", _COUNTER),
    "dramatiq.rate_limits.barrier": _all("create wait", "the last party's arrival, and the signal for the others"),
    "dramatiq.results.backend": _all("store_result store_exception", _STORE),
    # kombu's client for RabbitMQ. dispatch_method calls what the task has given to basic_consume.
    "amqp.abstract_channel": _all("dispatch_method send_method wait", _FRAMES),
    "amqp.connection": _all("blocking_read on_inbound_method", _FRAMES),
    "amqp.method_framing": _all("on_frame write_frame", _FRAMES),
    "asyncore": _all("_exception close_all read readwrite write", _CAUGHT),  # up to 3.11
    "botocore.awsrequest": _all("content", _PLACE),
    "botocore.httpsession": _all("send", _PLACE),
    "cachetools": _all(
        "__delitem__ __getitem__ __setitem__ clear expire get pop popitem setdefault",
        "a key in one of the cache's dictionaries, and not in the other",
    ),
    "cachetools._decorator": _all("__call__", "the mark that a value is being computed, which other threads wait for"),
    "cgitb": _all("handle", _CAUGHT),  # up to 3.12
    "code": _all("runcode showsyntaxerror showtraceback", _CAUGHT),
    "copyreg": _all("_slotnames", _CAUGHT),
    "doctest": _all("__run", _CAUGHT),
    "email._header_value_parser": _all("get_parameter", _CAUGHT),
    # Takes the place of traceback's up to 3.10.
    "exceptiongroup._formatting": _all("_safe_string", _CAUGHT),
    # The request itself is cut, see CUT_IN; what is handed over before and behind it is not.
    "httpcore._sync.connection": _all("handle_request", _PLACE),
    "httpcore._sync.connection_pool": _all("close handle_request", _PLACE),
    "httpcore._sync.http11": _all("_response_closed close handle_request", _PLACE),
    "httpcore._sync.http_proxy": _all("handle_request", _PLACE),
    "httpx._client": _all("_send_handling_auth _send_handling_redirects _send_single_request close send", _PLACE),
    "httpx._models": _all("close", _PLACE),
    "httpx._transports.default": _all("close handle_request", _PLACE),
    "imaplib": _all("print_log", _CAUGHT),
    # Not what waits for messages: start_consuming, consume, process_data_events, sleep. They call the task's functions.
    "pika.adapters.blocking_connection": _all(
        "basic_ack basic_cancel _basic_consume_impl basic_get basic_nack basic_publish basic_qos basic_recover "
        "basic_reject cancel channel close confirm_delivery exchange_bind exchange_declare exchange_delete "
        "exchange_unbind flow queue_bind queue_declare queue_delete queue_purge queue_unbind stop_consuming tx_commit "
        "tx_rollback tx_select update_secret",
        _FRAMES,
    ),
    "pika.adapters.select_connection": _all("_dispatch_fd_events process_timeouts", _FRAMES),
    "pstats": _all("load_stats", _CAUGHT),
    "pydoc": _all("importfile repr_instance safeimport synopsis", _CAUGHT),
    "redis.client": _all(
        "_execute_command _execute_pipeline _execute_transaction _send_command_parse_response execute "
        "immediate_execute_command parse_response reset",
        _REPLY,
    ),
    "redis.connection": _all(
        "connect_check_health disconnect get_connection make_connection on_connect_check_health read_response release "
        "send_packed_command",
        _REPLY,
    ),
    "requests.adapters": _all("send", _PLACE),
    "requests.models": _all("content generate", _PLACE),
    "requests.sessions": _all("<listcomp> resolve_redirects send", _PLACE),
    "shelve": _all("close", _CAUGHT),
    "sqlalchemy.orm.mapper": _all("_configure_registries", "mappers that are half configured, for the whole process"),
    "sqlalchemy.pool.base": _all(
        "_checkin _checkin_failed _checkout _finalize_fairy _return_conn checkin checkout invalidate", _PLACE
    ),
    "sqlalchemy.pool.impl": _all("_do_get _do_return_conn", _PLACE),
    # They take the lock, or one of its two, and give it back in another function, or without any try.
    "tqdm.std": _all("__init__ acquire clear close refresh release", "the lock of all progress bars"),
    "traceback": _all("_safe_string _some_str", _CAUGHT),  # from 3.11 on, and before
    # The whole test: what catches is a context manager, whose generator is suspended meanwhile.
    "unittest.case": _all("run", _CAUGHT),
    "unittest.loader": _all("_find_test_path", _CAUGHT),
    "urllib3.connectionpool": _all("_get_conn _put_conn urlopen", _PLACE),
    "urllib3.response": _all("_raw_read drain_conn read read_chunked release_conn stream", _PLACE),
    "uuid": _all("getnode", _CAUGHT),
    "wsgiref.handlers": _all("run", _CAUGHT),
    "xml.sax.expatreader": _all("external_entity_ref", _CAUGHT),
    "xmlrpc.server": _all("_marshaled_dispatch system_multicall", _CAUGHT),
}

#: Stands for whatever a function calls.
ANY: Final = "*"

#: Functions of those that may be cut while they call others of these names: it is there that they wait, or call the
#: task's own code, and they clean up behind that. Behind the call they are protected again.
CUT_IN: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("amqp.abstract_channel", "dispatch_method"): frozenset({"_on_basic_deliver"}),
    ("amqp.connection", "blocking_read"): frozenset({"on_frame"}),
    ("amqp.connection", "on_inbound_method"): frozenset({"dispatch_method"}),
    ("amqp.method_framing", "on_frame"): frozenset({"on_inbound_method"}),
    ("botocore.awsrequest", "content"): frozenset({"stream"}),
    ("botocore.httpsession", "send"): frozenset({"content", "urlopen"}),
    ("cachetools._decorator", "__call__"): frozenset({ANY}),
    ("dramatiq.actor", "send"): frozenset({"send_with_options"}),
    ("dramatiq.actor", "send_with_options"): frozenset({"enqueue"}),  # which is protected itself
    ("dramatiq.rate_limits.barrier", "wait"): frozenset({"wait"}),
    ("httpcore._sync.connection", "handle_request"): frozenset({"_connect", "handle_request"}),
    ("httpcore._sync.connection_pool", "handle_request"): frozenset({"handle_request"}),
    ("httpcore._sync.http11", "handle_request"): frozenset(
        {"_receive_response_headers", "_send_request_body", "_send_request_headers"}
    ),
    ("httpcore._sync.http_proxy", "handle_request"): frozenset({"handle_request"}),
    ("httpx._client", "_send_handling_auth"): frozenset({"_send_handling_redirects", "read"}),
    ("httpx._client", "_send_handling_redirects"): frozenset({"_send_single_request", "read"}),
    ("httpx._client", "_send_single_request"): frozenset({"handle_request"}),
    ("httpx._client", "send"): frozenset({"_send_handling_auth", "read"}),
    ("httpx._transports.default", "handle_request"): frozenset({"handle_request"}),
    ("redis.client", "_execute_command"): frozenset({"call_with_retry", "get_connection"}),
    ("redis.client", "_execute_pipeline"): frozenset({"parse_response"}),
    ("redis.client", "_execute_transaction"): frozenset({"parse_response"}),
    ("redis.client", "_send_command_parse_response"): frozenset({"parse_response"}),
    ("redis.client", "execute"): frozenset({"call_with_retry", "get_connection"}),
    ("redis.client", "immediate_execute_command"): frozenset({"call_with_retry", "get_connection"}),
    ("redis.client", "parse_response"): frozenset({"_execute", "parse_response", "read_response"}),
    ("redis.connection", "connect_check_health"): frozenset({"call_with_retry"}),
    ("redis.connection", "get_connection"): frozenset({"connect"}),
    ("redis.connection", "read_response"): frozenset({"read_response"}),
    ("requests.adapters", "send"): frozenset({"urlopen"}),
    ("requests.models", "content"): frozenset({"generate"}),
    ("requests.models", "generate"): frozenset({"stream"}),
    ("requests.sessions", "<listcomp>"): frozenset({"resolve_redirects"}),  # up to 3.11
    ("requests.sessions", "resolve_redirects"): frozenset({"content", "read", "send"}),
    ("requests.sessions", "send"): frozenset({"<listcomp>", "content", "resolve_redirects", "send"}),
    ("sqlalchemy.pool.base", "_checkout"): frozenset({"checkout", "get_connection"}),
    ("sqlalchemy.pool.base", "checkout"): frozenset({"_do_get", "get_connection"}),
    ("sqlalchemy.pool.impl", "_do_get"): frozenset({"_create_connection"}),
    ("urllib3.connectionpool", "urlopen"): frozenset(
        {"_make_request", "_prepare_proxy", "drain_conn", "sleep", "sleep_for_retry", "urlopen"}
    ),
    ("urllib3.response", "_raw_read"): frozenset({"_fp_read"}),
    ("urllib3.response", "drain_conn"): frozenset({"_raw_read", "read"}),
    ("urllib3.response", "read"): frozenset({"_raw_read"}),
    ("urllib3.response", "read_chunked"): frozenset({"_handle_chunk", "_update_chunk_length"}),
    ("urllib3.response", "stream"): frozenset({"read", "read_chunked"}),
}
