"""The names of protected code: whole modules, functions of any module, and functions of certain modules.

A module is protected as a whole if its functions are short. In a module whose functions also wait for long, or call the
task's own code, only the functions that must not be left half done are protected: otherwise a task could not be aborted
there. Each entry has its reason, which the documentation repeats. A test checks each name against the module.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ANY", "CUT_IN", "PROTECTED_FUNCTIONS", "PROTECTED_IN", "PROTECTED_MODULES"]

_SWALLOWED: Final = "the abort itself: Sentry swallows any exception raised in its own code"

#: Protected modules with the reason: what an abort would leave half done. A package stands for all its modules.
PROTECTED_MODULES: Final = {
    "_frozen_importlib": "module locks: a partially imported module would stay in sys.modules",
    "_frozen_importlib_external": "see _frozen_importlib",
    "_threading_local": "the lock of each threading.local",
    "_weakrefset": "the guard that postpones removals during an iteration",
    "asyncio": "the event loop, which drops an exception raised in a callback or in a task that is not awaited",
    "bdb": "the state of a debugger in use, and the reply to its prompt",
    "concurrent.futures": "the conditions of futures; the queues and counters of executors",
    "coverage": "the data on what has run, which monitoring callbacks write from 3.12 on",
    "dramatiq.asyncio": "a submitted coroutine, which would not be cancelled when its waiter is interrupted",
    "dramatiq_abort._worker.loops": "an event loop on the message's own thread: its coroutine is cancelled instead",
    "importlib": "see _frozen_importlib, which takes this name once importlib is imported",
    "logging": "the lock of the module and of each handler; before 3.13 these use acquire() and release()",
    "multiprocessing": "locks, semaphores and conditions around pipes, and data partially written to a pipe",
    "pdb": "see bdb",
    "queue": "conditions, written in Python, around one mutex",
    "sentry_sdk.client": _SWALLOWED,
    "sentry_sdk.scope": _SWALLOWED,
    "sentry_sdk.scrubber": _SWALLOWED,
    "sentry_sdk.tracing": _SWALLOWED,
    "sentry_sdk.transport": _SWALLOWED,
    "threading": "locks whose __enter__ and __exit__ are written in Python: all except Lock and RLock",
    "trio": "the scheduler: an exception raised in it ends the run, and the thread cannot run trio again",
    "warnings": "the lock of the filters, from 3.14 on",
    "weakref": "see _weakrefset",
}

#: Functions that are protected in every module: they hold code that must run, or acquire what must be released again.
#: This makes all context managers safe, including those of contextlib and those in an ``ExitStack``.
PROTECTED_FUNCTIONS: Final = frozenset({"__enter__", "__exit__", "__del__", "enter_context", "unraisablehook"})


def _all(names: str, reason: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


_PLACE: Final = "a pool, which would lose a connection or have one too many"
_UNREAD: Final = "an unread reply, which would be taken for that of the next command"
_REPLY: Final = f"{_UNREAD}; a connection of the pool"
_FRAMES: Final = "a partially sent or read frame: the server drops everything after it on the channel"
_ENQUEUE: Final = "a partially sent message, and after_enqueue hooks that belong to before_enqueue"
_COUNTER: Final = "a counter that has changed without its caller knowing"
_STORE: Final = "a result that is deleted but not stored"
_CAUGHT: Final = "the abort itself: the function catches every exception and goes on"

#: Protected functions with the reason, by the module in which they are defined and by the name of their code.
PROTECTED_IN: Final[dict[str, dict[str, str]]] = {
    # The calls of dramatiq that a task makes. Actor.__call__ is not one of them: it calls another actor's function.
    "dramatiq.actor": _all("send send_with_options", _ENQUEUE),
    "dramatiq.broker": _all("declare_actor add_middleware emit_before emit_after", "hooks, which come in pairs"),
    "dramatiq.brokers.rabbitmq": _all("enqueue declare_queue", _ENQUEUE),
    "dramatiq.brokers.redis": _all("enqueue declare_queue", _ENQUEUE),
    "dramatiq.brokers.stub": _all("enqueue declare_queue", _ENQUEUE),
    "dramatiq.composition": _all("run", "a partially sent group, whose completion callbacks would never run"),
    "dramatiq.rate_limits.backends.memcached": _all("add incr decr incr_and_sum", _COUNTER),
    "dramatiq.rate_limits.backends.redis": _all("add incr decr incr_and_sum wait_notify", _COUNTER),
    "dramatiq.rate_limits.backends.stub": _all("add incr decr incr_and_sum wait_notify", _COUNTER),
    "dramatiq.rate_limits.barrier": _all("create wait", "the arrival of the last party, and the signal to the others"),
    "dramatiq.results.backend": _all("store_result store_exception", _STORE),
    # kombu's client for RabbitMQ. dispatch_method calls the function that the task has passed to basic_consume.
    "amqp.abstract_channel": _all("dispatch_method send_method wait", _FRAMES),
    "amqp.connection": _all("blocking_read on_inbound_method", _FRAMES),
    "amqp.method_framing": _all("on_frame write_frame", _FRAMES),
    "asyncore": _all("_exception close_all read readwrite write", _CAUGHT),  # up to 3.11
    "botocore.awsrequest": _all("content", _PLACE),
    "botocore.httpsession": _all("send", _PLACE),
    "cachetools": _all(
        "__delitem__ __getitem__ __setitem__ clear expire get pop popitem setdefault",
        "a key that is in only one of the cache's two dictionaries",
    ),
    "cgitb": _all("handle", _CAUGHT),  # up to 3.12
    "code": _all("runcode showsyntaxerror showtraceback", _CAUGHT),
    "copyreg": _all("_slotnames", _CAUGHT),
    "doctest": _all("__run", _CAUGHT),
    "email._header_value_parser": _all("get_parameter", _CAUGHT),
    # exceptiongroup replaces traceback's function up to 3.10.
    "exceptiongroup._formatting": _all("_safe_string", _CAUGHT),
    "cachetools._decorator": _all("__call__", "the mark that a value is being computed, for which other threads wait"),
    # The request itself can be aborted (see CUT_IN); the steps before and after it cannot.
    "httpcore._sync.connection": _all("handle_request", _PLACE),
    "httpcore._sync.connection_pool": _all("close handle_request", _PLACE),
    "httpcore._sync.http11": _all("_response_closed close handle_request", _PLACE),
    "httpcore._sync.http_proxy": _all("handle_request", _PLACE),
    "httpx._client": _all("_send_handling_auth _send_handling_redirects _send_single_request close send", _PLACE),
    "httpx._models": _all("close", _PLACE),
    "httpx._transports.default": _all("close handle_request", _PLACE),
    "imaplib": _all("print_log", _CAUGHT),
    "joblib._store_backends": _all("get_metadata store_metadata", _CAUGHT),
    "joblib.func_inspect": _all("get_func_code get_func_name", _CAUGHT),
    "joblib.logger": _all("__call__ __init__", _CAUGHT),
    # Connections, channels and producers. Taking one from a pool of channels opens it.
    "kombu.pools": _all("release", _PLACE),
    "kombu.resource": _all("acquire release replace", _PLACE),
    # Without the functions that wait for messages and call the task's functions: start_consuming, consume,
    # process_data_events, sleep.
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
    # A connection closes itself if the read of a reply is aborted (see CUT_IN).
    "pymysql.connections": _all(
        "_execute_command _finish_unbuffered_query _force_close _get_descriptions _read_bytes _read_ok_packet "
        "_read_packet _read_query_result _read_result_packet _read_rowdata_packet _read_rowdata_packet_unbuffered "
        "_send_autocommit_mode begin close commit init_unbuffered_query next_result ping query read rollback "
        "select_db set_character_set show_warnings",
        _UNREAD,
    ),
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
    "sqlalchemy.orm.mapper": _all("_configure_registries", "partially configured mappers, for the whole process"),
    "sqlalchemy.pool.base": _all(
        "_checkin _checkin_failed _checkout _finalize_fairy _return_conn checkin checkout invalidate", _PLACE
    ),
    "sqlalchemy.pool.impl": _all("_do_get _do_return_conn", _PLACE),
    # These acquire the lock, or one of its two parts, and release it in another function, or without a try.
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

#: Stands for all functions that a function calls.
ANY: Final = "*"

#: The protected functions that can be aborted while they call functions of these names. In these calls they wait, or
#: run the task's own code, and they clean up after them. After the call they are protected again.
CUT_IN: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("amqp.abstract_channel", "dispatch_method"): frozenset({"_on_basic_deliver"}),
    ("amqp.connection", "blocking_read"): frozenset({"on_frame"}),
    ("amqp.connection", "on_inbound_method"): frozenset({"dispatch_method"}),
    ("amqp.method_framing", "on_frame"): frozenset({"on_inbound_method"}),
    ("botocore.awsrequest", "content"): frozenset({"stream"}),
    ("botocore.httpsession", "send"): frozenset({"content", "urlopen"}),
    ("cachetools._decorator", "__call__"): frozenset({ANY}),
    ("dramatiq.actor", "send"): frozenset({"send_with_options"}),
    ("dramatiq.actor", "send_with_options"): frozenset({"enqueue"}),  # protected itself
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
    ("pymysql.connections", "_execute_command"): frozenset({"_finish_unbuffered_query", "next_result"}),
    ("pymysql.connections", "_finish_unbuffered_query"): frozenset({"_read_packet"}),
    ("pymysql.connections", "_get_descriptions"): frozenset({"_read_packet"}),
    ("pymysql.connections", "_read_bytes"): frozenset({"readinto"}),
    ("pymysql.connections", "_read_ok_packet"): frozenset({"_read_packet"}),
    ("pymysql.connections", "_read_packet"): frozenset({"_read_bytes"}),
    ("pymysql.connections", "_read_query_result"): frozenset({"init_unbuffered_query", "read"}),
    ("pymysql.connections", "_read_result_packet"): frozenset({"_get_descriptions", "_read_rowdata_packet"}),
    ("pymysql.connections", "_read_rowdata_packet"): frozenset({"_read_packet"}),
    ("pymysql.connections", "_read_rowdata_packet_unbuffered"): frozenset({"_read_packet"}),
    ("pymysql.connections", "_send_autocommit_mode"): frozenset({"_execute_command", "_read_ok_packet"}),
    ("pymysql.connections", "begin"): frozenset({"_execute_command", "_read_ok_packet"}),
    ("pymysql.connections", "commit"): frozenset({"_execute_command", "_read_ok_packet"}),
    ("pymysql.connections", "init_unbuffered_query"): frozenset({"_get_descriptions", "_read_packet"}),
    ("pymysql.connections", "next_result"): frozenset({"_read_query_result"}),
    ("pymysql.connections", "ping"): frozenset({"_execute_command", "_read_ok_packet", "connect"}),
    ("pymysql.connections", "query"): frozenset({"_execute_command", "_read_query_result"}),
    ("pymysql.connections", "read"): frozenset({"_read_packet", "_read_result_packet"}),
    ("pymysql.connections", "rollback"): frozenset({"_execute_command", "_read_ok_packet"}),
    ("pymysql.connections", "select_db"): frozenset({"_execute_command", "_read_ok_packet"}),
    ("pymysql.connections", "set_character_set"): frozenset({"_execute_command", "_read_packet"}),
    ("pymysql.connections", "show_warnings"): frozenset({"_execute_command", "read"}),
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
