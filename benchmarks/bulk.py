"""How long it takes to abort many messages with one call, over Redis, and what that costs the server.

``python benchmarks/bulk.py [MESSAGES]`` starts a server (or uses the one of BENCHMARK_REDIS_URL), and prints the
seconds, those of one call each, for comparison, and the bytes of memory for each request.
"""
